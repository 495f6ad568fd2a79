package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/redisconn"
	"github.com/pycket/pycket/internal/store"
)

// doctor says whether Redis is set up well.
type doctor struct{}

// Help implements kong.HelpProvider.
func (*doctor) Help() string {
	return `Tries what App.Ping tries, which writes a few keys and deletes them in the same step, and asks every server, and the sentinels, about itself: version, user, eviction, memory, persistence, replicas, latency from here, client-side caching, and the state of a cluster or of sentinels. It says what to do about each finding. What the Redis user may not ask is not checked, and the right that is missing is named.

Exit code 1 if there is a problem; warnings alone are exit code 0. Exit code 3 if Redis can't be reached.

Examples:

  REDIS_URL=rediss://pycket:PASSWORD@redis.example.com pycket doctor
  pycket doctor --json | jq '.findings[] | select(.level == "problem")'`
}

// A level says how bad a finding is.
type level string

const (
	fine    level = "ok"
	warning level = "warning" // it may be meant so
	problem level = "problem"
	unknown level = "unknown" // not checked
)

// A finding is what doctor says about one thing.
type finding struct {
	Check  string `json:"check"`
	Server string `json:"server,omitempty"` // if there are several
	Level  level  `json:"level"`
	Says   string `json:"says"`
	Do     string `json:"do,omitempty"`
}

// An examination collects findings.
type examination struct {
	*tool
	sessions *store.Store
	settings pycket.Settings
	findings []finding
}

func (e *examination) add(check, server string, l level, says, do string) {
	e.findings = append(e.findings, finding{check, server, l, fromSettings.Replace(says), fromSettings.Replace(do)})
}

// Run implements the command.
func (*doctor) Run(t *tool) error {
	app, sessions, err := t.open()
	if err != nil {
		return err
	}
	defer app.Close()
	e := &examination{tool: t, sessions: sessions}
	if e.settings, err = t.settings(); err != nil {
		return err
	}
	if err := e.secrets(); err != nil {
		return err
	}
	down := e.ping(app)
	if down == nil {
		e.caching()
		e.sentinels()
		servers, err := sessions.Servers(t)
		if err != nil {
			return fmt.Errorf("doctor: %w", err)
		}
		for _, at := range servers {
			e.server(at)
		}
	}
	if err := e.print(); err != nil {
		return err
	}
	switch {
	case down != nil && !errors.Is(down, pycket.ErrMisconfigured):
		return down
	case slices.ContainsFunc(e.findings, func(f finding) bool { return f.Level == problem }):
		return errFound
	}
	return nil
}

// secrets looks at the secrets of the environment, and shows none.
func (e *examination) secrets() error {
	secrets, err := e.tool.secrets()
	if err != nil {
		return err
	}
	if len(secrets) == 0 {
		e.add("secrets", "", unknown, "SECRET and SECRETS are not set here", "to have them checked, run this with the application's environment")
		return nil
	}
	for i, secret := range secrets {
		switch {
		case len(secret) < secretBytes:
			e.add("secrets", "", problem, fmt.Sprintf("secret %d of %d has fewer than %d bytes", i+1, len(secrets), secretBytes), "make one with pycket keygen --rotate")
		case slices.Index(secrets, secret) < i:
			e.add("secrets", "", warning, fmt.Sprintf("secret %d of %d is there twice", i+1, len(secrets)), "remove one of them")
		}
	}
	if len(e.findings) == 0 {
		e.add("secrets", "", fine, counted(len(secrets), "secret", "secrets")+" of enough bytes", "")
	}
	return nil
}

// ping tries what the application does. It returns an error if Redis can't be reached, or asks for another password.
func (e *examination) ping(app *pycket.App) error {
	err := app.Ping(e)
	if err == nil {
		e.add("use", "", fine, fmt.Sprintf("sessions and notifications can be read, written and deleted under %q, with all the rights that takes", e.Prefix), "")
		return nil
	}
	says, do, _ := strings.Cut(strings.TrimPrefix(err.Error(), "pycket: "), "; ")
	e.add("use", "", problem, says, cmp.Or(do, "start Redis, and check REDIS_URL, or REDIS_CLUSTER or REDIS_SENTINELS, and the network between here and there"))
	servers, unreached := e.sessions.Servers(e)
	for _, at := range servers {
		if _, failed := e.sessions.Ask(e, at, "TIME"); failed != nil && !strings.Contains(failed.Error(), "NOPERM") {
			unreached = failed
		}
	}
	if unreached != nil {
		return err
	}
	return nil
}

// caching tries whether CacheFor can be used.
func (e *examination) caching() {
	s := e.settings
	s.CacheFor = time.Second
	app, err := pycket.New(s)
	if err == nil {
		defer app.Close()
		err = app.Ping(e)
	}
	switch {
	case err == nil:
		e.add("client-side caching", "", fine, "works: Settings.CacheFor can be set", "")
	case strings.Contains(err.Error(), "CacheFor"):
		e.add("client-side caching", "", warning, "doesn't work", "leave Settings.CacheFor 0, or use a Redis with CLIENT TRACKING, and give the user the rights for it that docs/operations.md lists")
	default:
		e.add("client-side caching", "", unknown, "can't be tried until the problem above is solved", "")
	}
}

// server asks a server about itself.
func (e *examination) server(at redisconn.Probe) {
	e.latency(at)
	e.user(at)
	text, ok := e.ask(at, "version, memory, persistence and replicas", "INFO")
	if !ok {
		return
	}
	info := parseInfo(text[0])
	if info["redis_version"] == "" {
		e.add("version, memory, persistence and replicas", at.Address, unknown, "the server doesn't say: it may be an embedded Redis, or a proxy", "look at the configuration of what is behind it")
		return
	}
	e.version(at, info)
	e.memory(at, info)
	e.persistence(at, info)
	e.replicas(at, info)
	if info["cluster_enabled"] == "1" {
		e.cluster(at)
	}
}

// ask asks a server. If that fails, the finding says what right is missing.
func (e *examination) ask(at redisconn.Probe, check string, question ...string) ([]string, bool) {
	answer, err := e.sessions.Ask(e, at, question...)
	if err == nil && len(answer) > 0 {
		return answer, true
	}
	name := strings.ToLower(strings.Join(question[:min(len(question), 2)], " "))
	right := "+" + strings.ReplaceAll(name, " ", "|")
	switch {
	case err == nil:
		e.add(check, at.Address, unknown, "the server gives no answer to "+name, "")
	case strings.Contains(err.Error(), "NOPERM"):
		e.add(check, at.Address, unknown, "the Redis user may not ask "+name, "allow it with ACL SETUSER … "+right)
	case strings.Contains(err.Error(), "nknown"):
		e.add(check, at.Address, unknown, "the server has no command "+name, "look at its configuration, or at its provider's console")
	default:
		e.add(check, at.Address, unknown, strings.TrimPrefix(err.Error(), "pycket: "), "")
	}
	return nil, false
}

// setting returns one of the server's own settings.
func (e *examination) setting(at redisconn.Probe, check, name string) (string, bool) {
	answer, ok := e.ask(at, check, "CONFIG", "GET", name)
	if !ok || len(answer) < 2 {
		return "", false
	}
	return answer[1], true
}

// parseInfo reads what INFO says.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	return info
}

const (
	// pings is how many round trips the latency is measured by.
	pings = 20

	// far is the median of a round trip that is worth a warning: every operation takes at least that.
	far = 5 * time.Millisecond
)

func (e *examination) latency(at redisconn.Probe) {
	var took []time.Duration
	for range pings {
		began := time.Now()
		if _, ok := e.ask(at, "latency", "TIME"); !ok {
			return
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	median, worst := took[pings/2], took[pings-1]
	says := fmt.Sprintf("a round trip from here takes %s, and of %d the longest took %s", fineness(median), pings, fineness(worst))
	if median > far {
		e.add("latency", at.Address, warning, says, "run the application near Redis: every operation takes at least one round trip")
		return
	}
	e.add("latency", at.Address, fine, says, "")
}

// fineness is a short time to read.
func fineness(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

func (e *examination) user(at redisconn.Probe) {
	name, ok := e.ask(at, "user", "ACL", "WHOAMI")
	switch {
	case !ok:
	case name[0] == "default":
		e.add("user", at.Address, warning, "the application is the user default, who as a rule may do everything",
			"give it a user of its own with the rights that docs/operations.md lists, and the default user a password")
	default:
		e.add("user", at.Address, fine, "the application is a user of its own, "+plain(name[0]), "")
	}
}

func (e *examination) version(at redisconn.Probe, info map[string]string) {
	name, version, oldest := "Redis", info["redis_version"], [2]int{6, 2}
	if v := info["valkey_version"]; v != "" {
		name, version, oldest = "Valkey", v, [2]int{7, 2}
	}
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, _ := strconv.Atoi(major)
	y, _ := strconv.Atoi(minor)
	if x < oldest[0] || x == oldest[0] && y < oldest[1] {
		e.add("version", at.Address, problem, name+" "+plain(version), "use Redis 6.2 or later, or Valkey 7.2 or later")
		return
	}
	e.add("version", at.Address, fine, name+" "+plain(version), "")
}

func (e *examination) memory(at redisconn.Probe, info map[string]string) {
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	limit, _ := strconv.ParseFloat(info["maxmemory"], 64)
	policy := plain(info["maxmemory_policy"])
	evicts := policy != "" && policy != "noeviction"
	evicted := ""
	if n, _ := strconv.ParseInt(info["evicted_keys"], 10, 64); n > 0 {
		evicted = fmt.Sprintf(", and has evicted %s since it started", counted(n, "key", "keys"))
	}
	const keep = "CONFIG SET maxmemory-policy noeviction, and keep in that Redis nothing that may be thrown away"
	switch {
	case evicts && limit > 0:
		e.add("eviction", at.Address, problem, "when it is full it throws sessions away ("+policy+")"+evicted, keep)
	case evicts:
		e.add("eviction", at.Address, warning, "as soon as maxmemory is set, it throws sessions away when it is full ("+policy+")"+evicted, keep)
	default:
		e.add("eviction", at.Address, fine, "it throws nothing away (noeviction)"+evicted, "")
	}
	switch {
	case limit == 0:
		e.add("memory", at.Address, warning, "there is no maxmemory: it takes all that the machine has, and is then killed",
			"CONFIG SET maxmemory to less than the machine's memory; a full Redis refuses writes and still ends sessions")
	case used > 0.8*limit:
		e.add("memory", at.Address, problem, fmt.Sprintf("%.0f%% of maxmemory are used", 100*used/limit), "raise maxmemory, or shorten IdleTimeout; pycket count says how many sessions there are")
	default:
		e.add("memory", at.Address, fine, fmt.Sprintf("%.0f%% of maxmemory are used", 100*used/limit), "")
	}
}

func (e *examination) persistence(at redisconn.Probe, info map[string]string) {
	const check = "persistence"
	const appendOnly = "CONFIG SET appendonly yes, then CONFIG REWRITE"
	failed := func(name string) bool { return info[name] != "" && info[name] != "ok" }
	switch {
	case failed("aof_last_write_status") || failed("aof_last_bgrewrite_status") || failed("rdb_last_bgsave_status"):
		e.add(check, at.Address, problem, "it can't save to its disk, and may refuse writes until it can", "its log says what to fix")
	case info["aof_enabled"] == "1":
		says, do := "append-only file", ""
		sync, ok := e.setting(at, check, "appendfsync")
		if !ok {
			return
		}
		switch sync {
		case "always":
			says += ": a crash loses nothing"
		case "everysec":
			says += ": a crash loses up to a second, a logout too"
		default:
			e.add(check, at.Address, warning, says+", written when the system likes: a crash loses seconds, logouts too", "CONFIG SET appendfsync everysec, or always")
			return
		}
		e.add(check, at.Address, fine, says, do)
	default:
		save, ok := e.setting(at, check, "save")
		switch {
		case !ok:
		case save == "":
			e.add(check, at.Address, warning, "none: when Redis restarts, everybody is logged out", appendOnly+"; or leave it, if that is meant")
		default:
			e.add(check, at.Address, warning, "snapshots only: after a crash, what came after the last one is lost, and sessions that were ended since are alive again", appendOnly)
		}
	}
}

func (e *examination) replicas(at redisconn.Probe, info map[string]string) {
	const check = "replicas"
	if info["role"] != "" && info["role"] != "master" {
		e.add(check, at.Address, problem, "the server is a replica, which takes no writes", "name the master in REDIS_URL")
		return
	}
	n, _ := strconv.Atoi(info["connected_slaves"])
	for i := range n {
		replica := info["slave"+strconv.Itoa(i)] // ip=127.0.0.1,port=7000,state=online,offset=14,lag=1
		values := map[string]string{}
		for part := range strings.SplitSeq(replica, ",") {
			name, value, _ := strings.Cut(part, "=")
			values[name] = value
		}
		if lag, _ := strconv.Atoi(values["lag"]); replica != "" && (values["state"] != "online" || lag > 10) {
			e.add(check, at.Address, problem, fmt.Sprintf("the replica %s:%s is %s and was last heard of %d s ago", plain(values["ip"]), plain(values["port"]), plain(values["state"]), lag), "look at its log, and at the network")
			return
		}
	}
	if n == 0 {
		e.add(check, at.Address, warning, "none: while this server is down, nobody has a session", "add a replica, and sentinels that watch both; or leave it, if that is meant")
		return
	}
	least, ok := e.setting(at, check, "min-replicas-to-write")
	if !ok {
		return
	}
	says := counted(n, "replica", "replicas") + ", in step"
	if least == "0" {
		e.add(check, at.Address, warning, says+"; a master that is cut off from them goes on taking writes, which are lost",
			"CONFIG SET min-replicas-to-write 1, and set WaitReplicas: see docs/storage.md")
		return
	}
	e.add(check, at.Address, fine, says, "")
}

func (e *examination) cluster(at redisconn.Probe) {
	text, ok := e.ask(at, "cluster", "CLUSTER", "INFO")
	if !ok {
		return
	}
	info := parseInfo(text[0])
	says := fmt.Sprintf("state %s, %s of 16384 slots served, %s servers", plain(info["cluster_state"]), plain(info["cluster_slots_ok"]), plain(info["cluster_known_nodes"]))
	if info["cluster_state"] != "ok" || info["cluster_slots_ok"] != "16384" {
		e.add("cluster", at.Address, problem, says, "redis-cli --cluster check says which slots are missing, and redis-cli --cluster fix repairs them")
		return
	}
	e.add("cluster", at.Address, fine, says, "")
}

// sentinels asks each sentinel whether it could replace the master.
func (e *examination) sentinels() {
	group := e.settings.Redis.Sentinel
	for _, address := range group.Addresses {
		says, err := e.sentinel(address)
		switch {
		case err == nil:
			e.add("sentinel", address, fine, says, "")
		case strings.Contains(err.Error(), "NOPERM"):
			e.add("sentinel", address, unknown, "the user may not ask sentinel ckquorum", "allow it with ACL SETUSER … +sentinel|ckquorum on every sentinel")
		default:
			e.add("sentinel", address, problem, plain(err.Error()), "bring it back: too few sentinels replace no master")
		}
	}
	if n := len(group.Addresses); n > 0 && n < 3 {
		e.add("sentinel", "", warning, fmt.Sprintf("REDIS_SENTINELS names %s", counted(n, "sentinel", "sentinels")), "run three or more, each on a machine of its own, and name all of them")
	}
}

// sentinel asks one sentinel.
func (e *examination) sentinel(address string) (string, error) {
	group := e.settings.Redis.Sentinel
	ctx, cancel := context.WithTimeout(e, e.Timeout)
	defer cancel()
	options := []redis.DialOption{
		redis.DialUsername(group.User), redis.DialPassword(group.Password),
		redis.DialReadTimeout(e.Timeout), redis.DialWriteTimeout(e.Timeout), redis.DialConnectTimeout(e.Timeout),
	}
	if group.TLS != nil {
		options = append(options, redis.DialUseTLS(true), redis.DialTLSConfig(group.TLS))
	}
	c, err := redis.DialContext(ctx, "tcp", address, options...)
	if err != nil {
		return "", err
	}
	defer c.Close()
	says, err := redis.String(c.Do("SENTINEL", "CKQUORUM", group.Master))
	return plain(says), err
}

// print prints the findings.
func (e *examination) print() error {
	if e.JSON {
		problems := 0
		for _, f := range e.findings {
			problems += one(f.Level == problem)
		}
		return e.out.json(struct {
			Problems int       `json:"problems"`
			Findings []finding `json:"findings"`
		}{problems, e.findings})
	}
	colours := map[level]int{fine: green, warning: yellow, problem: red, unknown: grey}
	for _, f := range e.findings {
		where := f.Check
		if f.Server != "" {
			where += " of " + f.Server
		}
		if _, err := fmt.Fprintf(e.out, "%s %s: %s\n", e.out.paint(colours[f.Level], fmt.Sprintf("%-8s", f.Level)), where, plain(f.Says)); err != nil {
			return err
		}
		if f.Do != "" {
			fmt.Fprintf(e.out, "         %s %s\n", e.out.paint(grey, "→"), plain(f.Do))
		}
	}
	return nil
}
