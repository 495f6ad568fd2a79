package pycket

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket/internal/redisconn"
)

// RedisSettings say which Redis to use and how (pycket_redis in pycket for Tornado).
type RedisSettings struct {
	// URL is redis://[user:password@]host[:port][/database], rediss:// for TLS, or
	// unix://[user:password@]/path/of/socket. With a password only, as of requirepass, it is redis://:password@host. ""
	// means redis://localhost:6379.
	URL string

	// TLS encrypts the connections to Redis, whatever the scheme of URL: for a CA of your own, a client certificate or
	// another server name than the host's. nil with rediss:// means the CAs that the machine trusts.
	TLS *tls.Config

	// Dial opens every connection to Redis: through a tunnel, say, or a hosted service's connector. It should return when
	// its context ends. nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// DBSessions and DBNotifications are the databases of sessions and of notifications. nil means 0 and 1, as in pycket
	// for Tornado, or, if the URL names a database, that one for both. They may be equal, since the keys differ too, and
	// must be if Redis has only one.
	DBSessions, DBNotifications *int

	// Cluster is the addresses, host:port, of some servers of a Redis Cluster; the others are found through them. User,
	// password and TLS are those of URL, which then names no host. A cluster has only database 0. docs/storage.md says
	// which operations on users then take several steps.
	Cluster []string

	// Sentinel says how to find a master that Redis Sentinel watches. URL then has the user, the password and the
	// database, and names no host.
	Sentinel SentinelSettings

	// Prefix begins every key. "" means "pycket:". Two applications on one Redis with different prefixes don't accept
	// each other's cookies.
	Prefix string

	// MaxConnections is the largest number of open connections to Redis; in a cluster, to each server. 0 means 64. Few are
	// used, since requests share one. A large command, and any command on a session that has had a large command or reply,
	// uses another, and waits if all are in use.
	MaxConnections int

	// WaitReplicas is how many replicas must have a write before it returns, in a cluster those of its server. What Redis
	// has and they don't confirm within Timeout returns ErrNotReplicated. 0 means that a write returns when Redis itself
	// has it: then the last writes before a failover may be lost. Waiting takes longer, and every write takes a connection
	// to itself: see MaxConnections.
	WaitReplicas int

	// Timeout bounds every operation, including waiting and dialing. For operations on all sessions of a user it applies
	// to each batch of 1,000. 0 means 3 seconds.
	Timeout time.Duration
}

// SentinelSettings say how to find a master that Redis Sentinel watches. Any sentinel that answers will do, and a
// failover is followed.
type SentinelSettings struct {
	// Master is the name of the master in the sentinels' configuration. "" means that there are no sentinels.
	Master string

	// Addresses is the addresses, host:port, of the sentinels.
	Addresses []string

	// User and Password are those of the sentinels, if they ask for any.
	User, Password string

	// TLS encrypts the connections to the sentinels. nil means none.
	TLS *tls.Config
}

const (
	defaultPrefix         = "pycket:"
	defaultMaxConnections = 64
	defaultTimeout        = 3 * time.Second
)

// checkRedis checks the settings and fills in the defaults.
func checkRedis(s *RedisSettings, fault *faults) redisTarget {
	fault.when(s.Timeout < 0, "Redis.Timeout is %v; use a positive duration, or 0 for %v", s.Timeout, defaultTimeout)
	fault.when(s.MaxConnections < 0, "Redis.MaxConnections is %d; use a positive number, or 0 for %d", s.MaxConnections, defaultMaxConnections)
	fault.when(s.WaitReplicas < 0, "Redis.WaitReplicas is %d; use the number of replicas that must have a write, or 0 to wait for none", s.WaitReplicas)
	fault.when(s.WaitReplicas > 0 && s.MaxConnections == 1 && len(s.Cluster) == 0,
		"Redis.WaitReplicas is set, and Redis.MaxConnections 1; use 2 or more, since a write that waits takes a connection to itself")
	s.Timeout = cmp.Or(s.Timeout, defaultTimeout)
	s.MaxConnections = cmp.Or(s.MaxConnections, defaultMaxConnections)
	target, err := parseRedisURL(s.URL)
	fault.when(err != nil, "%w", err)
	target.Dialer = s.Dial
	if s.TLS != nil {
		target.TLS = s.TLS
		fault.when(target.Network == "unix" && s.TLS.ServerName == "" && !s.TLS.InsecureSkipVerify,
			"Redis.TLS has no ServerName, and Redis.URL no host; set the name that the server's certificate is for")
	}
	checkSentinel(s, target, fault)
	if len(s.Cluster) > 0 {
		checkCluster(s, target, fault)
		return target
	}
	target.Database, target.Other = 0, 1
	if target.db != nil {
		target.Database, target.Other = *target.db, *target.db
	}
	if s.DBSessions != nil {
		fault.when(target.db != nil && target.Database != *s.DBSessions,
			"Redis.URL names database %d and Redis.DBSessions %d; name it once", target.Database, *s.DBSessions)
		target.Database = *s.DBSessions
	}
	if s.DBNotifications != nil {
		target.Other = *s.DBNotifications
	}
	fault.when(target.Database < 0, "Redis.DBSessions is negative; use the number of a database, 0 or greater")
	fault.when(target.Other < 0, "Redis.DBNotifications is negative; use the number of a database, 0 or greater")
	return target
}

func checkSentinel(s *RedisSettings, target redisTarget, fault *faults) {
	n := &s.Sentinel
	others := len(n.Addresses) > 0 || n.User != "" || n.Password != "" || n.TLS != nil
	if n.Master == "" {
		fault.when(others, "Redis.Sentinel.Master is empty, and other settings of Redis.Sentinel are not; use the name that the sentinels' configuration gives the master")
		return
	}
	fault.when(len(n.Addresses) == 0, "Redis.Sentinel.Addresses is empty; name at least one sentinel, better all, as host:port")
	fault.addresses("Redis.Sentinel.Addresses", n.Addresses)
	fault.when(n.User != "" && n.Password == "", "Redis.Sentinel.User is set, and Redis.Sentinel.Password is not; set both, or only the password if the sentinels have no users")
	fault.when(len(s.Cluster) > 0, "Redis.Sentinel and Redis.Cluster are both set; use one: a cluster has no sentinels")
	fault.when(len(s.Cluster) == 0 && (target.Network == "unix" || target.named),
		"Redis.URL names a server, and Redis.Sentinel.Master another way to it; put only user, password, scheme and database into the URL, as in rediss://user:password@/0")
}

func checkCluster(s *RedisSettings, target redisTarget, fault *faults) {
	isOther := func(db *int) bool { return db != nil && *db != 0 }
	fault.when(target.Network == "unix" || target.named,
		"Redis.URL names a server, and Redis.Cluster others; put all into Cluster, and only user, password and scheme into the URL, as in rediss://user:password@")
	fault.when(isOther(target.db) || isOther(s.DBSessions) || isOther(s.DBNotifications),
		"Redis.Cluster is set, and so is a database other than 0, which a cluster does not have; omit the databases")
	fault.when(strings.Contains(s.Prefix, "{"),
		"Redis.Prefix has a brace, and Redis.Cluster is set; omit the brace: what is in braces decides which server a key is on, and that must be the session's handle")
	fault.when(s.MaxConnections == 1,
		"Redis.MaxConnections is 1; a cluster needs 2 or more to each server, since a command on a key that moves between servers uses another")
	fault.addresses("Redis.Cluster", s.Cluster)
}

// addresses checks a list of addresses. It quotes none, since one may hold a password by mistake.
func (f *faults) addresses(setting string, list []string) {
	for i, address := range list {
		host, port, err := net.SplitHostPort(address)
		f.when(err != nil || host == "" || port == "", "%s[%d] is not an address; use host:port", setting, i)
	}
}

// client makes the client of checked settings. It dials nothing.
func (t redisTarget) client(s *RedisSettings) redisconn.Client {
	server := func(target redisconn.Target) *redisconn.Server {
		return redisconn.NewServer(newRedisPool(target.Dial, redisconn.CheckIdle, s.MaxConnections), target.Address, s.MaxConnections, s.Timeout)
	}
	if s.Sentinel.Master != "" {
		watch := redisconn.Target{Username: s.Sentinel.User, Password: s.Sentinel.Password, TLS: s.Sentinel.TLS, Dialer: s.Dial}
		sentinels := redisconn.NewSentinels(s.Sentinel.Master, s.Sentinel.Addresses, watch, s.Timeout)
		dial := func(ctx context.Context) (redis.Conn, error) { return sentinels.Dial(ctx, t.Target) }
		master := redisconn.NewServer(newRedisPool(dial, sentinels.Check, s.MaxConnections), "", s.MaxConnections, s.Timeout)
		master.Follow(sentinels)
		return master
	}
	if len(s.Cluster) == 0 {
		return server(t.Target)
	}
	return redisconn.NewCluster(s.Cluster, t.Target, s.Timeout, func(address string) *redisconn.Server {
		at := t.Target
		at.Network, at.Address = "tcp", address
		return server(at)
	})
}

// newRedisPool makes the pool of the connections to a server.
func newRedisPool(dial func(context.Context) (redis.Conn, error), check func(redis.Conn, time.Time) error, connections int) *redis.Pool {
	return &redis.Pool{MaxIdle: connections, IdleTimeout: redisconn.IdleClose, DialContext: dial, TestOnBorrow: check}
}

// A redisTarget is a parsed URL.
type redisTarget struct {
	redisconn.Target
	named bool // the URL has a host
	db    *int // named by the URL
}

// parseRedisURL never repeats the URL in an error: it may hold a password.
func parseRedisURL(raw string) (t redisTarget, err error) {
	if raw == "" {
		raw = "redis://" // of the default host
	}
	u, err := url.Parse(raw)
	if err != nil {
		return t, errors.New("Redis.URL cannot be parsed; use redis://host:port, with special characters of the password percent-encoded")
	}
	if u.User != nil {
		t.Username = u.User.Username()
		password, ok := u.User.Password()
		if t.Password = password; !ok { // as in redis-cli, one word is the password
			t.Username, t.Password = "", t.Username
		}
	}
	switch u.Scheme {
	case "redis", "rediss":
	case "unix":
		if u.Host != "" || u.Path == "" {
			return t, errors.New("Redis.URL names no socket; use unix:///path/of/socket, with three slashes")
		}
		t.Network, t.Address = "unix", u.Path
		return t, nil
	default:
		return t, fmt.Errorf("Redis.URL has the scheme %q; use redis://, rediss:// or unix://", u.Scheme)
	}
	if u.Opaque != "" {
		return t, errors.New("Redis.URL lacks the two slashes after the scheme; use redis://host:port")
	}
	if u.RawQuery != "" {
		return t, errors.New("Redis.URL has a query, which has no meaning here; omit it")
	}
	host, port := u.Hostname(), u.Port()
	t.named = u.Host != ""
	if host == "" {
		host = "localhost"
	}
	if port == "" {
		port = "6379"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return t, errors.New("Redis.URL has an invalid port; use a number from 1 to 65535")
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		n, err := strconv.Atoi(path)
		if err != nil || n < 0 {
			return t, errors.New("Redis.URL has a path that is not a database number; use redis://host:port/0 or omit the path")
		}
		t.db = &n
	}
	if u.Scheme == "rediss" {
		t.TLS = new(tls.Config)
	}
	t.Network, t.Address = "tcp", net.JoinHostPort(host, port)
	return t, nil
}
