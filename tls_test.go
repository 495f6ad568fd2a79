package pycket_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redistest"
)

// An authority issues certificates that nobody trusts who does not know it.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, &a.key.PublicKey)
	a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue issues a certificate for 127.0.0.1 and names. It returns it, and the files of it and its key.
func (a *authority) issue(file string, end time.Time, names ...string) (cert tls.Certificate, certFile, keyFile string) {
	a.t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: file}, NotAfter: end, DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	signed := a.sign(template, a.cert, &key.PublicKey)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(file+".pem", "CERTIFICATE", signed.Raw)
	a.write(file+".key", "EC PRIVATE KEY", der)
	return tls.Certificate{Certificate: [][]byte{signed.Raw}, PrivateKey: key}, filepath.Join(a.dir, file+".pem"), filepath.Join(a.dir, file+".key")
}

// pool has the authority alone.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// startTLS starts a redis-server that speaks TLS at the address it returns.
func (a *authority) startTLS(certFile, keyFile string, args ...string) (address string) {
	a.t.Helper()
	return a.encrypt(redistest.Start(a.t, args...), certFile, keyFile)
}

// encrypt makes a redis-server speak TLS, too, at the address it returns.
func (a *authority) encrypt(server *redistest.Server, certFile, keyFile string) (address string) {
	a.t.Helper()
	if known, _ := server.Do(0, "CONFIG", "GET", "tls-port").([]any); len(known) == 0 {
		redistest.Skip(a.t, "this redis-server was built without TLS; that of Debian has it")
	}
	address = redistest.FreeAddr(a.t)
	for _, setting := range a.tls(address, certFile, keyFile) {
		name, value, _ := strings.Cut(setting, " ")
		server.Do(0, "CONFIG", "SET", name, value)
	}
	return address
}

// tls is the configuration of a server that speaks TLS at an address.
func (a *authority) tls(address, certFile, keyFile string) (lines []string) {
	_, port, _ := net.SplitHostPort(address)
	return []string{"tls-ca-cert-file " + filepath.Join(a.dir, "ca.pem"), "tls-cert-file " + certFile, "tls-key-file " + keyFile, "tls-port " + port}
}

// A redis-server that speaks TLS, with a CA of the company's own, and what may be wrong with it.
func TestRedisTLS(t *testing.T) {
	ca := newAuthority(t)
	later := time.Now().Add(time.Hour)
	client, _, _ := ca.issue("client", later)
	stranger, _, _ := newAuthority(t).issue("stranger", later)
	_, certFile, keyFile := ca.issue("server", later)
	open := ca.startTLS(certFile, keyFile, "--tls-auth-clients", "no")
	strict := ca.startTLS(certFile, keyFile)
	_, certFile, keyFile = ca.issue("expired", time.Now().Add(-time.Minute))
	expired := ca.startTLS(certFile, keyFile, "--tls-auth-clients", "no")
	_, certFile, keyFile = ca.issue("named", later, "redis.internal")
	named := ca.startTLS(certFile, keyFile, "--tls-auth-clients", "no")
	plain := redistest.Start(t)

	trusted := &tls.Config{RootCAs: ca.pool()}
	with := func(change func(*tls.Config)) *tls.Config {
		config := trusted.Clone()
		change(config)
		return config
	}
	presenting := func(cert tls.Certificate) *tls.Config {
		return with(func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} })
	}
	for name, test := range map[string]struct {
		url  string
		tls  *tls.Config
		want []string // of the error, none if it works
	}{
		"private CA":                    {"rediss://" + open, trusted, nil},
		"without rediss":                {"redis://" + open, trusted, nil},
		"client certificate":            {"rediss://" + strict, presenting(client), nil},
		"server name":                   {"rediss://" + named, with(func(c *tls.Config) { c.ServerName = "redis.internal" }), nil},
		"unknown CA":                    {"rediss://" + open, nil, []string{"certificate signed by unknown authority", "RootCAs of Redis.TLS"}},
		"no client certificate":         {"rediss://" + strict, trusted, []string{"remote error: tls", "client certificate"}},
		"client certificate of another": {"rediss://" + strict, presenting(stranger), []string{"client certificate"}},
		"wrong name":                    {"rediss://" + named, trusted, []string{"IP SANs", "ServerName of Redis.TLS or, without sentinels and cluster,"}},
		"another name":                  {"rediss://" + named, with(func(c *tls.Config) { c.ServerName = "redis.example" }), []string{"certificate is valid for redis.internal", "ServerName of Redis.TLS"}},
		"expired":                       {"rediss://" + expired, trusted, []string{"certificate has expired", "valid certificate"}},
		"plain server":                  {"redis://" + plain.Addr, trusted, []string{"the server speaks without TLS", "Redis.TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(plain)
			s.Redis.URL, s.Redis.TLS = test.url, test.tls
			site := newSite(t, s)
			if test.want != nil {
				wantError(t, site.app.Ping(t.Context()), pycket.ErrMisconfigured, test.want...)
				var failure error
				site.failed = func(err error) { failure = err }
				site.browser().try("set:a:b")
				wantError(t, failure, pycket.ErrMisconfigured, test.want...)
				return
			}
			if err := site.app.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			large := strings.Repeat("x", 20<<10) // which takes a connection to itself
			site.browser().want([]outcome{{}, {Value: "b"}, {}, {Value: large}}, "set:a:b", "get:a", "set:large:"+large, "get:large")
		})
	}
}

// Dial and TLS are for every connection: the shared one, those of large commands, the one on which a server says what has
// changed, and those to every server of a cluster, to sentinels and to their master. Here all speak TLS to who has a
// certificate, and nobody listens at the addresses that the App knows or hears of.
func TestDial(t *testing.T) {
	for name, begin := range map[string]func(ca *authority, certFile, keyFile string) (s pycket.Settings, leads map[string]string){
		"redis": func(ca *authority, certFile, keyFile string) (pycket.Settings, map[string]string) {
			server := redistest.Start(ca.t)
			s := settings(server)
			s.Redis.URL = account(server) + "tunnel.invalid:1"
			return s, map[string]string{"tunnel.invalid:1": ca.encrypt(server, certFile, keyFile)}
		},
		"cluster": func(ca *authority, certFile, keyFile string) (pycket.Settings, map[string]string) {
			server := redistest.StartCluster(ca.t, 3, 0)
			s, leads := settings(server), map[string]string{}
			s.Redis.Cluster = []string{"127.0.0.1:1"}
			for i, node := range server.Nodes() {
				leads[fmt.Sprintf("127.0.0.1:%d", i+1)] = ca.encrypt(node, certFile, keyFile)
				node.Do(0, "CONFIG", "SET", "cluster-announce-port", i+1)
				node.Do(0, "CONFIG", "SET", "cluster-announce-tls-port", i+1)
			}
			for _, node := range server.Nodes() {
				await(ca.t, "the others' ports", func() bool {
					nodes, _ := redis.String(node.Do(0, "CLUSTER", "NODES"), nil)
					return strings.Count(nodes, " 127.0.0.1:1@")+strings.Count(nodes, " 127.0.0.1:2@")+strings.Count(nodes, " 127.0.0.1:3@") == 3
				})
			}
			return s, leads
		},
		"sentinel": func(ca *authority, certFile, keyFile string) (pycket.Settings, map[string]string) {
			server := redistest.Start(ca.t)
			master := ca.encrypt(server, certFile, keyFile)
			_, certFile, keyFile = ca.issue("sentinel", time.Now().Add(time.Hour), "sentinel.internal")
			sentinel := redistest.FreeAddr(ca.t)
			redistest.StartSentinel(ca.t, "watched", "192.0.2.1", "6379", ca.tls(sentinel, certFile, keyFile)...)
			s := settings(server)
			s.Redis.URL = account(server)
			s.Redis.Sentinel = pycket.SentinelSettings{Master: "watched", Addresses: []string{"sentinel.invalid:1"},
				TLS: &tls.Config{RootCAs: ca.pool(), ServerName: "sentinel.internal"}}
			return s, map[string]string{"sentinel.invalid:1": sentinel, "192.0.2.1:6379": master}
		},
	} {
		if name == "cluster" && redistest.Debuggable() == nil { // one older than 7.0 does not tell the others its new port
			continue
		}
		t.Run(name, func(t *testing.T) {
			ca := newAuthority(t)
			cert, certFile, keyFile := ca.issue("server", time.Now().Add(time.Hour), "redis.internal")
			s, leads := begin(ca, certFile, keyFile)
			s.Redis.TLS = &tls.Config{RootCAs: ca.pool(), ServerName: "redis.internal", Certificates: []tls.Certificate{cert}}
			if s.Redis.Sentinel.TLS != nil {
				s.Redis.Sentinel.TLS.Certificates = s.Redis.TLS.Certificates
			}
			s.Redis.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, leads[address])
			}
			site := caching(t, s, long)
			if t.Failed() {
				return // at once: each operation would wait
			}
			large := strings.Repeat("x", 20<<10)
			for range 10 { // on several servers of a cluster
				b := site.browser()
				b.want([]outcome{{}, {Value: "b"}, {}, {Value: large}}, "set:a:b", "get:a", "set:large:"+large, "get:large")
			}
			b := site.browser()
			b.must("set:a:b")
			site.remembers(b)
		})
	}
}
