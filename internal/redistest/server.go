//go:build unix

// Package redistest runs Redis servers for tests, and a proxy that does to connections what networks do.
//
//	func TestSet(t *testing.T) {
//		redistest.Both(t, func(t *testing.T, server *redistest.Server) {
//			proxy := redistest.NewProxy(t, server)
//			client := newClient(proxy.URL())
//			proxy.Hold() // replies
//			go client.Set("a", "b")
//			proxy.AwaitCommands(1)
//			// The command has been sent, and its reply has not arrived.
//			proxy.Pass()
//			server.Do(0, "GET", "a")
//		})
//	}
//
// Everything listens on 127.0.0.1 and ends with the test. The exception is the cluster of [SharedCluster],
// which a TestMain ends with [StopShared]. Methods that fail end the test, so call them from its goroutine,
// except for those of a [Proxy]: any goroutine may call them.
package redistest

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket/embedded"
)

// program is the redis-server to run.
func program() string { return cmp.Or(os.Getenv("PYCKET_TEST_SERVER"), "redis-server") }

// Installed reports whether there is a redis-server for [Start] to run: the program of that name, or the one
// that the environment variable PYCKET_TEST_SERVER names.
func Installed() bool {
	_, err := exec.LookPath(program())
	return err == nil
}

// Debuggable returns the arguments with which a redis-server takes the command DEBUG. One older than 7.0 always does, and
// doesn't know them.
func Debuggable() []string {
	version, _ := exec.Command(program(), "--version").Output() // #nosec G204 G702 -- whoever runs the tests chooses it
	if regexp.MustCompile(`v=[0-6]\.`).Match(version) {
		return nil
	}
	return []string{"--enable-debug-command", "yes"}
}

// Require skips the test if a program is not installed, and says which Debian package has it. If the
// environment variable PYCKET_TEST_REQUIRE is "all", it fails the test instead.
func Require(t testing.TB, program, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	Skip(t, fmt.Sprintf("%s is not installed; on Debian: apt-get install %s", program, debianPackage))
}

// Skip skips the test, or fails it if [Require] would.
func Skip(t testing.TB, message string) {
	t.Helper()
	if os.Getenv("PYCKET_TEST_REQUIRE") == "all" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// client is the user that URLs name, if any.
var client struct {
	name, password string
	rules          []string
}

// As makes every redis-server that is started from now on have a user, by rules as ACL SETUSER takes them, and its
// [Server.URL] name that user. The tests' own commands ([Server.Do]) are still those of the default user. Call it before
// the tests run.
func As(name, password string, rules []string) {
	client.name, client.password, client.rules = name, password, rules
}

// Both runs a test with a redis-server and with the embedded server, each in a subtest.
func Both(t *testing.T, test func(t *testing.T, server *Server)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) { test(t, Start(t)) })
	t.Run("embedded", func(t *testing.T) { test(t, StartEmbedded(t)) })
}

// Real runs a test with a redis-server and with the shared cluster, each in a subtest.
func Real(t *testing.T, test func(t *testing.T, server *Server)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) { test(t, Start(t)) })
	t.Run("cluster", func(t *testing.T) { test(t, SharedCluster(t)) })
}

// Every is Both and a subtest with the shared cluster.
func Every(t *testing.T, test func(t *testing.T, server *Server)) {
	t.Helper()
	Both(t, test)
	t.Run("cluster", func(t *testing.T) { test(t, SharedCluster(t)) })
}

// A Server is a Redis to test against: a redis-server, the embedded one or a cluster.
type Server struct {
	Addr string // host:port; that of a cluster is its first node's

	t       testing.TB
	*daemon           // not of a cluster
	nodes   []*Server // of a cluster, masters first
	masters int
	moved   map[int]int // a slot that a Move gave to another master, and its place among the nodes
}

// A daemon is what a Server and its copies by On share.
type daemon struct {
	args    []string // of redis-server
	env     []string // for it, besides this process's
	clock   string   // the file that sets its clock, "" if it is the machine's
	dir     string
	process *os.Process
	exited  chan struct{} // closed when the process has
	memory  *embedded.Server
}

// Start starts a redis-server with further arguments, such as "--requirepass", "secret". It saves nothing
// unless they say so. Without an installed redis-server it does what [Require] does.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	server := start(t, args...)
	t.Cleanup(server.end)
	return server
}

// start is Start without a cleanup.
func start(t testing.TB, args ...string) *Server {
	t.Helper()
	return startDaemon(t, &daemon{args: args})
}

func startDaemon(t testing.TB, d *daemon) *Server {
	t.Helper()
	Require(t, program(), "redis-server")
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	d.dir = dir
	server := &Server{t: t, daemon: d}
	for range 5 { // another program may take the port before redis-server does
		if server.Addr, err = freeAddr(); err == nil {
			err = server.run()
		}
		if err == nil {
			return server
		}
	}
	os.RemoveAll(dir)
	t.Fatal(err)
	return nil
}

// freeAddr returns an address to listen on. The port 10000 above it is also free: nodes of a cluster use both.
func freeAddr() (string, error) {
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		listener.Close()
		addr := listener.Addr().(*net.TCPAddr)
		bus, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", addr.Port+10000))
		if err == nil {
			bus.Close()
			return addr.String(), nil
		}
	}
}

// FreeAddr returns an address to listen on.
func FreeAddr(t testing.TB) string {
	t.Helper()
	address, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// StartEmbedded starts the embedded server.
func StartEmbedded(t testing.TB) *Server {
	t.Helper()
	memory, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &Server{Addr: memory.Addr(), t: t, daemon: &daemon{memory: memory}}
	t.Cleanup(server.end)
	return server
}

// run runs the server and returns when it answers.
func (s *Server) run() error {
	if s.Embedded() {
		memory, err := embedded.Start(s.Addr)
		if err == nil {
			s.memory = memory
		}
		return err
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	args := []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir}
	if client.name != "" {
		args = append(append(args, "--user", client.name), client.rules...)
	}
	command := exec.Command(program(), append(args, s.args...)...) // #nosec G204 G702 -- whoever runs the tests chooses it
	var output bytes.Buffer
	command.Env = append(os.Environ(), s.env...)
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		command.Wait()
		close(exited)
	}()
	s.process, s.exited = command.Process, exited
	var err error
	for range 1000 {
		if _, err = do(s.Addr, 0, "PING"); err == nil || strings.HasPrefix(err.Error(), "NOAUTH") {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("redis-server has exited: %s", &output)
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.Kill()
	return fmt.Errorf("redis-server does not answer: %w", err)
}

// end is Kill for good.
func (s *Server) end() {
	s.Kill()
	for _, node := range s.each() {
		os.RemoveAll(node.dir)
	}
}

// each returns the nodes of a cluster, or the server itself.
func (s *Server) each() []*Server {
	if len(s.nodes) > 0 {
		return s.nodes
	}
	return []*Server{s}
}

// On returns the same server for a subtest, whose t it uses from then on.
func (s *Server) On(t testing.TB) *Server {
	on := *s
	on.t = t
	on.nodes = nil
	for _, node := range s.nodes {
		on.nodes = append(on.nodes, node.On(t))
	}
	return &on
}

// Embedded reports whether s is the embedded server, which lacks many of Redis's commands.
func (s *Server) Embedded() bool { return s.daemon != nil && s.memory != nil }

// User returns the name of the user that URL leads to.
func (s *Server) User() string {
	if s.Embedded() {
		return "default"
	}
	return cmp.Or(client.name, "default")
}

// URL returns the server's URL, redis://host:port, with the user of [As], if any. That of a cluster leads to its first
// node.
func (s *Server) URL() string {
	if client.name == "" || s.Embedded() {
		return "redis://" + s.Addr
	}
	return "redis://" + client.name + ":" + client.password + "@" + s.Addr
}

// Kill kills the server, or every node of a cluster, and returns when it is gone.
func (s *Server) Kill() {
	for _, node := range s.each() {
		if node.Embedded() {
			node.memory.Close()
			continue
		}
		node.process.Kill()
		<-node.exited
	}
}

// Restart kills the server, or every node of a cluster, unless that was done, and starts it again on the same
// port and with the same arguments. What it has not saved is lost.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	for _, node := range s.each() {
		if err := node.run(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Signal sends a signal to the server, or to every node of a cluster.
func (s *Server) Signal(signal syscall.Signal) {
	s.t.Helper()
	for _, node := range s.each() {
		if node.Embedded() {
			s.t.Fatal("the embedded server is not a process")
		}
		node.process.Signal(signal)
	}
}

// Suspend makes the server hang, until Resume or the end of the test. The kernel still accepts connections.
func (s *Server) Suspend() {
	s.t.Helper()
	s.Signal(syscall.SIGSTOP)
	s.t.Cleanup(s.Resume)
}

// Resume ends what Suspend began.
func (s *Server) Resume() {
	s.t.Helper()
	s.Signal(syscall.SIGCONT)
}

// Do carries out a command in a database and returns its reply. A cluster has one database; there the command goes to
// the node that has the key, but KEYS, FLUSHALL, CONFIG, SCRIPT and CLIENT go to every node. Their reply has the
// elements of all replies, and a node that refuses, as a replica refuses FLUSHALL, is not a failure.
func (s *Server) Do(db int, command string, args ...any) any {
	s.t.Helper()
	if len(s.nodes) > 0 {
		db = 0
		if slices.Contains([]string{"KEYS", "FLUSHALL", "CONFIG", "SCRIPT", "CLIENT"}, command) {
			return s.doEverywhere(command, args...)
		}
	}
	reply, err := do(s.Addr, db, command, args...)
	for range 3 {
		moved, ok := strings.CutPrefix(fmt.Sprint(err), "MOVED ") // MOVED slot host:port
		if !ok {
			break
		}
		_, addr, _ := strings.Cut(moved, " ")
		reply, err = do(addr, db, command, args...)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	return reply
}

func (s *Server) doEverywhere(command string, args ...any) any {
	s.t.Helper()
	all := []any{}
	for _, node := range s.nodes {
		reply, err := do(node.Addr, 0, command, args...)
		if _, refused := err.(redis.Error); err != nil && !refused {
			s.t.Fatalf("%s: %v", command, err)
		}
		list, _ := reply.([]any)
		all = append(all, list...)
	}
	return all
}

// do carries out a command over a new connection.
func do(addr string, db int, command string, args ...any) (any, error) {
	c, err := redis.Dial("tcp", addr, redis.DialDatabase(db))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(command, args...)
}

// Keys returns the keys in a database. In a cluster, which has one, pycket's notifications and messages
// count as those of database 1, and everything else as those of database 0.
func (s *Server) Keys(db int) []string {
	s.t.Helper()
	keys, err := redis.Strings(s.Do(db, "KEYS", "*"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(s.nodes) == 0 {
		return keys
	}
	slices.Sort(keys)
	return slices.DeleteFunc(slices.Compact(keys), func(key string) bool { // replicas list keys too
		note := strings.HasPrefix(key, "pycket:n:") || strings.HasPrefix(key, "pycket:m:")
		return note != (db == 1)
	})
}

// OnlyKey returns the one key in database 0. If there are more or none, it ends the test.
func (s *Server) OnlyKey() string {
	s.t.Helper()
	keys := s.Keys(0)
	if len(keys) != 1 {
		s.t.Fatalf("there are %d sessions, not one", len(keys))
	}
	return keys[0]
}

// Size returns how many keys there are in databases 0 and 1.
func (s *Server) Size() int {
	s.t.Helper()
	return len(s.Keys(0)) + len(s.Keys(1))
}

// Hash returns the fields of a hash.
func (s *Server) Hash(db int, key string) map[string]string {
	s.t.Helper()
	m, err := redis.StringMap(s.Do(db, "HGETALL", key), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// Scripts returns how many scripts and reads (HGETALL) the server, or every node of a cluster together, has run and
// refused or failed since it was last called. The embedded server does not count them.
func (s *Server) Scripts() (run, refused int) {
	s.t.Helper()
	for _, node := range s.each() {
		info, err := takeStats(node.Addr)
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.SplitSeq(info, "\r\n") {
			if name, stats, _ := strings.Cut(line, ":"); name == "cmdstat_evalsha" || name == "cmdstat_eval" || name == "cmdstat_hgetall" {
				var calls, usec, rejected, failed int
				var each float64
				fmt.Sscanf(stats, "calls=%d,usec=%d,usec_per_call=%f,rejected_calls=%d,failed_calls=%d", &calls, &usec, &each, &rejected, &failed)
				run += calls - failed
				refused += rejected + failed
			}
		}
	}
	return run, refused
}

// takeStats returns the figures of a server's commands, and sets them to zero. It sends both commands together, so that the
// server carries out no other's between them.
func takeStats(addr string) (info string, err error) {
	c, err := redis.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.Send("INFO", "commandstats")
	c.Send("CONFIG", "RESETSTAT")
	replies, err := redis.Values(c.Do(""))
	if err != nil {
		return "", err
	}
	if refused, ok := replies[1].(redis.Error); ok {
		return "", refused
	}
	return redis.String(replies[0], nil)
}
