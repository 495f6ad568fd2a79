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
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	address = free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address)
	redistest.Start(a.t, append([]string{"--tls-port", port, "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-ca-cert-file", filepath.Join(a.dir, "ca.pem")}, args...)...)
	return address
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

// Dial and TLS are for every connection: the shared one, those of large commands, and those to every server of a cluster.
func TestDial(t *testing.T) {
	ca := newAuthority(t)
	cert, _, _ := ca.issue("server", time.Now().Add(time.Hour), "redis.internal")
	redistest.Every(t, func(t *testing.T, server *redistest.Server) {
		s := settings(server)
		if server.Nodes() == nil {
			s.Redis.URL = "redis://tunnel.invalid:1"
		}
		s.Redis.TLS = &tls.Config{RootCAs: ca.pool(), ServerName: "redis.internal"}
		s.Redis.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, strings.Replace(address, "tunnel.invalid:1", server.Addr, 1))
			if err != nil {
				return nil, err
			}
			near, far := net.Pipe()
			go func() { // which speaks TLS in place of the server
				unwrapped := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}})
				go func() {
					defer c.Close()
					io.Copy(c, unwrapped)
				}()
				defer unwrapped.Close()
				io.Copy(unwrapped, c)
			}()
			return near, nil
		}
		site := newSite(t, s)
		if err := site.app.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("x", 20<<10)
		for range 10 { // on several servers of a cluster
			site.browser().want([]outcome{{}, {Value: "b"}, {}, {Value: large}}, "set:a:b", "get:a", "set:large:"+large, "get:large")
		}
	})
}
