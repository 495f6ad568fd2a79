package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pycket/pycket/internal/store"
)

// sessions lists the sessions of a user.
type sessions struct {
	User string `arg:"" help:"The user, as Login was given it."`
}

// Help implements kong.HelpProvider.
func (*sessions) Help() string {
	return `In the order in which the user logged in. Exit code 1 if there is none.

Examples:

  pycket sessions ann
  pycket sessions ann --json | jq -r '.[].handle'`
}

// A sessionJSON is what --json prints of a session.
type sessionJSON struct {
	Handle        string    `json:"handle"`
	User          string    `json:"user,omitempty"`
	Created       time.Time `json:"created,omitzero"`
	LastSeen      time.Time `json:"last_seen,omitzero"`
	SignedIn      time.Time `json:"signed_in,omitzero"`
	UserAgent     string    `json:"user_agent,omitempty"`
	ExpiresIn     float64   `json:"expires_in_seconds,omitempty"`
	IdleTimeout   float64   `json:"own_idle_timeout_seconds,omitempty"`
	Bytes         int64     `json:"bytes,omitempty"`
	Values        []itemOf  `json:"values,omitempty"`
	Notifications []itemOf  `json:"notifications,omitempty"`
	Messages      []itemOf  `json:"messages,omitempty"`
}

// An itemOf is a value of a session, a notification or a message.
type itemOf struct {
	Name   string  `json:"name,omitempty"`
	Bytes  int     `json:"bytes"`
	Value  *string `json:"value,omitempty"` // if it was asked for, and is text
	Opaque bool    `json:"opaque,omitempty"`
}

// Run implements the command.
func (c *sessions) Run(t *tool) error {
	app, _, err := t.open()
	if err != nil {
		return err
	}
	defer app.Close()
	found, err := app.Sessions(t, c.User)
	if err != nil {
		return err
	}
	if t.JSON {
		list := []sessionJSON{}
		for _, s := range found {
			list = append(list, sessionJSON{
				Handle: s.Handle, Created: s.Created.UTC(), LastSeen: s.LastSeen.UTC(), SignedIn: utc(s.SignedIn), UserAgent: s.UserAgent,
			})
		}
		err = t.out.json(list)
	} else if len(found) > 0 {
		table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "HANDLE\tCREATED\tLAST SEEN\tSIGNED IN\tUSER AGENT")
		for _, s := range found {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", s.Handle, ago(s.Created), ago(s.LastSeen), ago(s.SignedIn), plain(s.UserAgent))
		}
		err = table.Flush()
	}
	if err == nil && len(found) == 0 {
		return fmt.Errorf("%s has no session", c.User)
	}
	return err
}

// utc is a time for JSON, which stays zero if it is.
func utc(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return at.UTC()
}

// show shows what is stored of a session.
type show struct {
	Handle string `arg:"" help:"The session's handle: see sessions, or SessionManager.Handle."`
	Values bool   `help:"Show values too, as they are stored."`
}

// Help implements kong.HelpProvider.
func (*show) Help() string {
	return `Shows the user, the times, and the names and sizes of values, notifications and messages. Values stay in Redis unless --values is given. One that is not text is not shown: it is sealed (pycket.Sealed), or from a codec that doesn't write text. Looking at a session doesn't renew it. Exit code 1 if there is no such session.

Examples:

  pycket show 3yC_T6XdhxcKgLo-
  pycket show 3yC_T6XdhxcKgLo- --values --json`
}

// Run implements the command.
func (c *show) Run(t *tool) error {
	if !store.IsHandle(c.Handle) {
		return usageError{errNoHandle}
	}
	app, sessions, err := t.open()
	if err != nil {
		return err
	}
	defer app.Close()
	shown, o, err := sessions.Show(t, store.Began{At: time.Now()}, c.Handle, c.Values)
	switch {
	case err != nil:
		return fmt.Errorf("show: %w", err)
	case o.State == store.Destroyed:
		return fmt.Errorf("the session has ended, %s ago", short(o.Ago))
	case o.State != store.Alive:
		return errNoSession
	}
	s := sessionJSON{
		Handle: c.Handle, User: shown.User, UserAgent: shown.Agent,
		Created: utc(shown.Created), LastSeen: utc(shown.Seen), SignedIn: utc(shown.Authenticated),
		ExpiresIn: shown.Left.Seconds(), IdleTimeout: shown.Idle.Seconds(), Bytes: shown.Size,
		Values: items(shown.Values, c.Values), Notifications: items(shown.Notifications, c.Values), Messages: items(shown.Messages, c.Values),
	}
	if t.JSON {
		return t.out.json(s)
	}
	return s.write(t.out)
}

var (
	errNoHandle  = errors.New("that is not a handle, which has 16 letters, digits, - and _; sessions lists those of a user")
	errNoSession = errors.New("there is no such session")
)

// items are what is stored, in the order of names.
func items(stored []store.Stored, values bool) []itemOf {
	var list []itemOf
	for _, v := range stored {
		item := itemOf{Name: v.Name, Bytes: v.Size}
		if values && isText(v.Value) {
			item.Value = new(string(v.Value))
		} else if values {
			item.Opaque = true
		}
		list = append(list, item)
	}
	slices.SortStableFunc(list, func(a, b itemOf) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// isText reports whether a value is text, which no sealed one is: its nonce and ciphertext are random bytes.
func isText(value []byte) bool {
	return utf8.Valid(value) && strings.IndexFunc(string(value), func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) }) < 0
}

// write writes a session to be read by people.
func (s *sessionJSON) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	idle := "-"
	if s.IdleTimeout > 0 {
		idle = short(seconds(s.IdleTimeout))
	}
	for _, row := range [][2]string{
		{"handle", s.Handle},
		{"user", cmp.Or(plain(s.User), "-")},
		{"created", ago(s.Created)},
		{"last seen", ago(s.LastSeen)},
		{"signed in", ago(s.SignedIn)},
		{"user agent", cmp.Or(plain(s.UserAgent), "-")},
		{"expires", "in " + short(seconds(s.ExpiresIn)) + ", if it isn't used"},
		{"remembered", idle},
		{"size", counted(s.Bytes, "byte", "bytes")},
	} {
		fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	for _, kind := range []struct {
		name  string
		items []itemOf
	}{{"value", s.Values}, {"notification", s.Notifications}, {"message", s.Messages}} {
		for _, item := range kind.items {
			text := counted(item.Bytes, "byte", "bytes")
			switch {
			case item.Opaque:
				text += ", sealed or not text"
			case item.Value != nil:
				text = plain(*item.Value)
			}
			fmt.Fprintf(table, "%s\t%s\n", strings.TrimSpace(kind.name+" "+plain(item.Name)), text)
		}
	}
	return table.Flush()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// count counts the sessions that are alive.
type count struct{}

// Help implements kong.HelpProvider.
func (*count) Help() string {
	return `Goes through all keys by SCAN, in a cluster on one master after the other, and rests as long as each step has taken. A session that begins or ends meanwhile may be counted or not. On a terminal, a line says how far it is.

Examples:

  pycket count
  pycket count --json`
}

// A tally counts sessions.
type tally struct {
	Sessions   int   `json:"sessions"`
	OfUsers    int   `json:"of_users"`
	Remembered int   `json:"remembered"`
	Notified   int   `json:"notified"`
	Bytes      int64 `json:"bytes"`
}

// Run implements the command.
func (c *count) Run(t *tool) error {
	app, sessions, err := t.open()
	if err != nil {
		return err
	}
	defer app.Close()
	var all tally
	_, err = t.sweep(sessions, func(s store.Swept) {
		all.Sessions++
		all.OfUsers += one(s.Owned)
		all.Remembered += one(s.Own)
		all.Notified += one(s.Noted)
		all.Bytes += s.Size
	})
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	if t.JSON {
		return t.out.json(all)
	}
	_, err = fmt.Fprintf(t.out, "%s, %s of users, %s remembered, %s with notifications waiting; %s of names and values\n",
		counted(all.Sessions, "session", "sessions"), number(all.OfUsers), number(all.Remembered), number(all.Notified), counted(all.Bytes, "byte", "bytes"))
	return err
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// revoke ends sessions.
type revoke struct {
	Handle string `arg:"" optional:"" help:"The session's handle."`
	User   string `help:"End all sessions of this user instead." placeholder:"USER"`
}

// Help implements kong.HelpProvider.
func (*revoke) Help() string {
	return `The session's id is dead at once, on every server, and requests under way get ErrGone. Exit code 1 if there was no such session.

Examples:

  pycket revoke 3yC_T6XdhxcKgLo-
  pycket revoke --user ann`
}

// Run implements the command.
func (c *revoke) Run(t *tool) error {
	switch {
	case (c.Handle == "") == (c.User == ""):
		return usageError{errors.New("name a session by its handle, or a user with --user")}
	case c.Handle != "" && !store.IsHandle(c.Handle):
		return usageError{errNoHandle}
	}
	app, sessions, err := t.open()
	if err != nil {
		return err
	}
	defer app.Close()
	ended, nothing := 0, errNoSession
	if c.User != "" {
		ended, err = app.RevokeUser(t, c.User)
		nothing = fmt.Errorf("%s has no session", c.User)
	} else {
		var was bool
		was, err = sessions.Revoke(t, store.Began{At: time.Now()}, c.Handle)
		if ended = one(was); err != nil {
			err = fmt.Errorf("revoke: %w", err)
		}
	}
	if t.JSON && (err == nil || ended > 0) {
		t.out.json(map[string]int{"ended": ended})
	} else if ended > 0 {
		fmt.Fprintf(t.out, "%s ended\n", counted(ended, "session", "sessions"))
	}
	if err == nil && ended == 0 {
		return nothing
	}
	return err
}
