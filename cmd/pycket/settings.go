package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"unicode"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/backdoor"
	"github.com/pycket/pycket/internal/store"
)

// An environment returns the value of an environment variable, "" if it isn't set.
type environment func(name string) string

// read returns the value of a variable, or what is in the file that the variable with _FILE names.
func (e environment) read(name string) (value string, fromFile bool, err error) {
	value, file := e(name), e(name+"_FILE")
	switch {
	case file == "":
		return value, false, nil
	case value != "":
		return "", false, usageError{fmt.Errorf("%s and %s_FILE are both set; set one", name, name)}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", false, usageError{fmt.Errorf("%s_FILE: %w", name, err)}
	}
	return strings.TrimSpace(string(text)), true, nil
}

// secrets returns the application's secrets, the newest first, and none if the environment has none. It doesn't check
// them.
func (e environment) secrets() ([]string, error) {
	one, _, err := e.read("SECRET")
	if err != nil {
		return nil, err
	}
	several, fromFile, err := e.read("SECRETS")
	if err != nil {
		return nil, err
	}
	between := func(r rune) bool { return r == ',' || unicode.IsSpace(r) }
	if fromFile {
		between = func(r rune) bool { return r == '\n' || r == '\r' }
	}
	list := strings.FieldsFunc(several, between)
	switch {
	case one == "":
		return list, nil
	case len(list) > 0:
		return nil, usageError{errors.New("SECRET and SECRETS are both set; set one")}
	}
	return []string{one}, nil
}

// settings are those of an App that works on the application's sessions.
func (t *tool) settings() (s pycket.Settings, err error) {
	for _, v := range []struct {
		name string
		into *string
	}{
		{"REDIS_URL", &s.Redis.URL},
		{"REDIS_SENTINEL_MASTER", &s.Redis.Sentinel.Master},
		{"REDIS_SENTINEL_USER", &s.Redis.Sentinel.User},
		{"REDIS_SENTINEL_PASSWORD", &s.Redis.Sentinel.Password},
	} {
		if *v.into, _, err = t.read(v.name); err != nil {
			return s, err
		}
	}
	for _, v := range []struct {
		name string
		into *[]string
	}{
		{"REDIS_CLUSTER", &s.Redis.Cluster},
		{"REDIS_SENTINELS", &s.Redis.Sentinel.Addresses},
	} {
		list, _, err := t.read(v.name)
		if err != nil {
			return s, err
		}
		*v.into = strings.FieldsFunc(list, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	}
	if t.environment("REDIS_SENTINEL_TLS") != "" {
		s.Redis.Sentinel.TLS = new(tls.Config)
	}
	s.Secrets = []string{rand.Text() + rand.Text()} // for cookies, of which this App makes none
	s.Redis.Prefix, s.Redis.Timeout = t.Prefix, t.Timeout
	s.Redis.DBSessions, s.Redis.DBNotifications = t.DBSessions, t.DBNotifications
	s.Logger = slog.New(slog.DiscardHandler)
	return s, nil
}

// fromSettings puts the names that this command has for settings into what an App says of them.
var fromSettings = strings.NewReplacer(
	"Redis.URL", "REDIS_URL", "Redis.Cluster", "REDIS_CLUSTER",
	"Redis.Sentinel.Master", "REDIS_SENTINEL_MASTER", "Redis.Sentinel.Addresses", "REDIS_SENTINELS",
	"Redis.Sentinel.User", "REDIS_SENTINEL_USER", "Redis.Sentinel.Password", "REDIS_SENTINEL_PASSWORD", "Redis.Sentinel.TLS", "REDIS_SENTINEL_TLS",
	"Redis.Prefix", "--prefix", "Redis.DBSessions", "--db-sessions", "Redis.DBNotifications", "--db-notifications", "Redis.Timeout", "--timeout",
)

// open makes an App for the application's sessions, and its store. It dials nothing.
func (t *tool) open() (*pycket.App, *store.Store, error) {
	s, err := t.settings()
	if err != nil {
		return nil, nil, err
	}
	app, err := pycket.New(s)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return app, backdoor.Open(app).Store, nil
}
