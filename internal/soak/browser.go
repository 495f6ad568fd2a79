//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A crowd is what all browsers share.
type crowd struct {
	ledger    *ledger
	processes []*process
	timeout   time.Duration // of an operation
	stale     time.Duration // how old what a process reads may be
	sure      bool          // what a replica has confirmed, a failover does not take

	mu   sync.Mutex
	dead []grave
}

// A grave is a session that was ended.
type grave struct {
	cookie    *http.Cookie
	owner     string
	at        time.Time
	confirmed bool // and a replica knows, if the processes wait for one
}

// slack is how much later than the timeout an answer may be, on a machine that has much to do.
const slack = time.Second

// settling is how long a master that was replaced, and does not know, may go on answering.
const settling = 3 * time.Second

// A browser has a jar of cookies and goes through one session after another.
type browser struct {
	*crowd
	number int
	client *http.Client
	random *rand.Rand
	life   *life
	lives  int
}

// A life is one session of a browser, from its first value to its end, and what is known of it.
type life struct {
	owner     string
	began     time.Time
	confirmed bool // the session and its id
	ending    bool // a logout has begun

	mu        sync.Mutex
	histories map[string]history
	given     map[string]bool // messages that were added, and whether the process said so
	taken     map[string]int  // messages, how often
	obscure   bool            // messages may have been taken and not been handed out
	over      bool            // nothing more can be asked of the session
	lost      bool            // since it is not what it should be
}

func newBrowser(c *crowd, number int, seed uint64) *browser {
	jar, _ := cookiejar.New(nil) // which returns no error
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	return &browser{
		crowd: c, number: number,
		client: &http.Client{Jar: jar, Transport: transport, Timeout: 10 * c.timeout},
		random: rand.New(rand.NewPCG(seed, uint64(number))), // #nosec G404 G115 -- it is to be repeatable
	}
}

// An answer is what came of a request.
type answer struct {
	result
	from, to time.Time
	cookie   *http.Cookie // the session's, if the answer sets it; with an empty value if it deletes it
	stale    time.Duration
}

func (a answer) ok() bool        { return a.Err == "" || a.Err == unreplicated }
func (a answer) confirmed() bool { return a.Err == "" }
func (a answer) fresh() bool     { return a.cookie != nil && a.cookie.Value != "" }

// known reports whether it is certain that the operation was carried out, or not.
func (a answer) known() bool { return a.Err != unavailable && a.Err != noAnswer }

// some returns a process.
func (b *browser) some() *process { return b.processes[b.random.IntN(len(b.processes))] }

// uncached returns a process that reads nothing from memory.
func (b *browser) uncached() *process {
	for {
		if p := b.some(); p.CacheFor == 0 {
			return p
		}
	}
}

// ask sends an order to a process, with the cookies of the jar or with one other.
func (b *browser) ask(p *process, o order, other ...*http.Cookie) (a answer) {
	body, _ := json.Marshal(o) // of strings
	client := *b.client
	a.from, a.stale = time.Now(), p.CacheFor
	request, err := http.NewRequest("POST", p.url(), bytes.NewReader(body))
	if err == nil {
		for _, cookie := range other {
			client.Jar = nil
			request.AddCookie(cookie)
		}
		var response *http.Response
		if response, err = client.Do(request); err == nil {
			var text []byte
			if text, err = io.ReadAll(response.Body); err == nil {
				err = json.Unmarshal(text, &a.result)
			}
			response.Body.Close()
			for _, cookie := range response.Cookies() {
				a.cookie = cookie
			}
		}
	}
	a.to = time.Now()
	if err != nil {
		a.result = result{Err: noAnswer, Text: err.Error(), Took: a.to.Sub(a.from)}
	}
	b.ledger.operation(o.Do, a.from, a.to, a.result)
	b.judge(o, a)
	return a
}

// judge judges what any answer must be.
func (b *browser) judge(o order, a answer) {
	suspect := func(e excuse, format string, args ...any) {
		b.ledger.suspect(suspect{a.from, a.to, fmt.Sprintf(format, args...), e, nil, false})
	}
	switch a.Err {
	case "", gone, unreplicated:
	case unavailable:
		suspect(duringFault, "%s fails without a fault: %s", o.Do, a.Text)
	case noAnswer:
		suspect(whileAppKilled, "%s has no answer: %s", o.Do, a.Text)
	default:
		suspect(nil, "%s returns an error that no fault explains: %s", o.Do, a.Text)
	}
	if a.Err == unreplicated {
		suspect(duringFault, "%s is not replicated, without a fault: %s", o.Do, a.Text)
	}
	if a.Took > b.timeout+slack && a.Err != noAnswer {
		suspect(nil, "%s takes %v", o.Do, a.Took)
	}
	if len(a.Pair) == 2 && o.Do == "pair" && a.ok() && a.Pair[0] != a.Pair[1] {
		suspect(nil, "half of two values that are set together: %q and %q", a.Pair[0], a.Pair[1])
	}
}

// sessionCookie returns the session's cookie in the jar.
func (b *browser) sessionCookie() *http.Cookie {
	at, _ := url.Parse("http://127.0.0.1/")
	for _, cookie := range b.client.Jar.Cookies(at) {
		return cookie
	}
	return nil
}

// forget drops the cookies.
func (b *browser) forget() { b.client.Jar, _ = cookiejar.New(nil) }

// run goes through one session after another until the context ends.
func (b *browser) run(ctx context.Context) {
	for ctx.Err() == nil {
		b.forget()
		b.visitGrave()
		if b.begin(ctx) {
			for rounds := 5 + b.random.IntN(25); rounds > 0 && !b.life.isOver() && ctx.Err() == nil; rounds-- {
				b.round()
				if b.random.IntN(12) == 0 && !b.life.isOver() {
					b.rotate()
				}
				b.rest(40 * time.Millisecond)
			}
			b.settle()
			if !b.life.isOver() {
				b.end(ctx)
			}
		}
		b.rest(100 * time.Millisecond)
	}
}

func (b *browser) rest(most time.Duration) { time.Sleep(time.Duration(b.random.Int64N(int64(most)))) }

func (b *browser) user() string { return fmt.Sprintf("user %d", b.number) }

// begin begins a session and logs in. It reports whether that went well.
func (b *browser) begin(ctx context.Context) bool {
	b.lives++
	l := &life{
		owner: fmt.Sprintf("b%d-%d", b.number, b.lives), began: time.Now(),
		histories: map[string]history{}, given: map[string]bool{}, taken: map[string]int{},
	}
	b.life = l
	a := b.ask(b.some(), order{Do: "set", Name: owner, Value: l.owner})
	if !a.ok() {
		if a.known() {
			b.ledger.violation("a new visitor's set returns %s", a.Err)
		}
		b.rest(200 * time.Millisecond)
		return false
	}
	if !a.fresh() {
		b.ledger.violation("a new visitor's set makes no cookie")
		return false
	}
	l.confirmed = a.confirmed()
	before := b.sessionCookie()
	a = b.ask(b.some(), order{Do: "login", Value: b.user()})
	switch {
	case !a.known():
		return false // with which id, is not known
	case !a.ok():
		b.lose(a, "login returns "+a.Err)
		return false
	case !a.fresh():
		b.ledger.violation("login makes no cookie")
		return false
	}
	l.confirmed = l.confirmed && a.confirmed()
	b.wantDead(grave{before, l.owner, a.to, a.confirmed()}, "the id before the login")
	if a := b.ask(b.some(), order{Do: "sessions", Value: b.user()}); a.Err == "" && !a.Current {
		b.ledger.suspect(suspect{l.began, a.to, "the user's list lacks a session that was logged in", duringFailover, []string{"places on a user's list"}, false})
	}
	return ctx.Err() == nil
}

func (l *life) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// lose notes that the session is not what it should be, and ends its life. Only a failover may do that.
func (b *browser) lose(a answer, what string) {
	l := b.life
	if !a.fresh() && b.stillThere() {
		b.ledger.suspect(suspect{l.began, a.to, "the session " + l.owner + " is there, and " + what, duringFailover, []string{replacedMaster}, false})
		return
	}
	l.mu.Lock()
	before := l.lost
	l.over, l.lost = true, true
	l.mu.Unlock()
	if before {
		return
	}
	b.suspectLoss(l.began, a.to, l.confirmed && a.Err != unreplicated, "sessions", fmt.Sprintf("the session %s is lost: %s", l.owner, what))
}

// replacedMaster is what is counted if a later answer shows that an earlier one was old.
const replacedMaster = "answers of a master that had been replaced"

// stillThere reports whether the session is what it should be when every server knows who is the master.
func (b *browser) stillThere() bool {
	a := b.later()
	return a.Err == "" && a.Owner == b.life.owner
}

// later reads a session, with the cookies of the jar or with one other, when every server knows who is the master.
func (b *browser) later(other ...*http.Cookie) (a answer) {
	time.Sleep(settling)
	for range 10 {
		if a = b.ask(b.processes[0], reads["r0"], other...); a.known() {
			return a
		}
		time.Sleep(time.Second)
	}
	return a
}

// round sends up to three orders at once.
func (b *browser) round() {
	var orders []order
	var to []*process
	for range 1 + b.random.IntN(3) {
		orders, to = append(orders, b.order()), append(to, b.some())
	}
	var asking sync.WaitGroup
	for i, o := range orders {
		asking.Go(func() { b.note(o, b.ask(to[i], o)) })
	}
	asking.Wait()
}

// order makes up an order.
func (b *browser) order() order {
	name := []string{"r0", "r1", "r2"}[b.random.IntN(3)]
	note := []string{"n0", "n1"}[b.random.IntN(2)]
	value := fmt.Sprintf("%s:%x", b.life.owner, b.random.Uint32())
	switch n := b.random.IntN(100); {
	case n < 20:
		return order{"set", name, value}
	case n < 42:
		return order{"get", name, ""}
	case n < 44:
		return order{"delete", name, ""}
	case n < 47:
		return order{"pop", name, ""}
	case n < 55:
		return order{"increment", "count", ""}
	case n < 62:
		return order{"update", "count", ""}
	case n < 66:
		return order{"number", "count", ""}
	case n < 72:
		return order{"set pair", p, value}
	case n < 78:
		return order{"pair", p, ""}
	case n < 84:
		return order{"notify", note, value}
	case n < 90:
		return order{"take", note, ""}
	case n < 96:
		return order{"add", "", value}
	}
	return order{"drain", "", ""}
}

// note notes what came of an order.
func (b *browser) note(o order, a answer) {
	l := b.life
	for _, value := range append([]string{a.Value, a.Owner}, a.Pair...) {
		switch o.Do {
		case "increment", "update", "number":
			value = ""
		}
		if value != "" && value != l.owner && !strings.HasPrefix(value, l.owner+":") {
			b.ledger.violation("%s returns another's data: %s for %s", o.Do, value, l.owner)
		}
	}
	isRead := o == reads[o.Name]
	switch {
	case a.fresh():
		b.lose(a, o.Do+" begins another")
	case a.Err == gone && !l.ending:
		b.lose(a, o.Do+" returns ErrGone")
	case isRead && a.Err == "" && a.Owner == "" && !l.ending:
		b.lose(a, o.Do+" finds none")
	}
	if a.Err == gone || !a.ok() && a.known() || isRead && (a.Err != "" || a.Owner == "") {
		return // nothing was changed or seen
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch o.Do {
	case "add":
		l.given[o.Value] = a.ok()
		return
	case "drain":
		l.obscure = l.obscure || !a.known()
		for _, message := range a.Pair {
			l.taken[message]++
		}
		return
	}
	s := step{do: o.Do, value: o.Value, done: a.known(), confirmed: a.confirmed(), from: a.from, to: a.to}
	switch o.Do {
	case "get", "number", "pair":
		s.do, s.value, s.known, s.early = "get", a.Value, true, a.stale
	case "increment", "update", "take", "pop":
		s.value, s.known = a.Value, a.known()
	}
	l.histories[o.Name] = append(l.histories[o.Name], s)
}

// rotate gives the session another id.
func (b *browser) rotate() {
	before := b.sessionCookie()
	a := b.ask(b.some(), order{Do: "rotate"})
	switch {
	case !a.known(): // and which id it has is not, either
		b.life.end()
	case !a.ok():
		b.lose(a, "rotate returns "+a.Err)
	case !a.fresh():
		b.lose(a, "rotate finds none")
	default:
		b.life.confirmed = b.life.confirmed && a.confirmed()
		b.wantDead(grave{before, b.life.owner, a.to, a.confirmed()}, "the id before the rotation")
	}
}

// reads are orders that read a value and leave it there.
var reads = map[string]order{
	"r0": {"get", "r0", ""}, "r1": {"get", "r1", ""}, "r2": {"get", "r2", ""}, "count": {"number", "count", ""}, p: {"pair", p, ""},
}

// settle reads all values of the session a last time, and checks its histories.
func (b *browser) settle() {
	l := b.life
	drained := false
	for _, last := range []order{reads["r0"], reads["r1"], reads["r2"], reads["count"], reads[p], {"take", "n0", ""}, {"take", "n1", ""}, {"drain", "", ""}} {
		for tries := 0; tries < 10 && !l.isOver(); tries++ {
			a := b.ask(b.uncached(), last)
			b.note(last, a)
			if drained = last.Do == "drain" && a.known(); a.known() {
				break
			}
			b.rest(time.Second)
		}
	}
	if l.lost {
		return
	}
	now := time.Now()
	for name, h := range l.histories {
		verdict := h.check()
		b.ledger.mu.Lock()
		b.ledger.histories++
		if verdict == porcupine.Unknown {
			b.ledger.unchecked++
		}
		b.ledger.mu.Unlock()
		if verdict != porcupine.Illegal {
			continue
		}
		lost := h.lost()
		if again, ok := reads[name]; ok && lost {
			time.Sleep(settling)
			b.note(again, b.ask(b.processes[0], again))
			lost = l.histories[name].lost()
		}
		b.suspectLoss(l.began, now, lost, "values", fmt.Sprintf("the history of %s of %s is impossible:%s", name, l.owner, h))
	}
	for message, times := range l.taken {
		if times > 1 {
			b.ledger.suspect(suspect{l.began, now, fmt.Sprintf("the message %s is handed out %d times", message, times), duringFailover, []string{"takings of a message"}, false})
		}
		if _, given := l.given[message]; !given {
			b.ledger.violation("the message %s was never added", message)
		}
	}
	for message, acknowledged := range l.given {
		if acknowledged && l.taken[message] == 0 && drained && !l.obscure {
			b.ledger.suspect(suspect{l.began, now, fmt.Sprintf("the message %s is lost", message), duringFailover, []string{"messages"}, false})
		}
	}
}

// end ends the session in one of several ways, while other requests are still writing.
func (b *browser) end(ctx context.Context) {
	l, cookie := b.life, b.sessionCookie()
	o := order{Do: "destroy"}
	switch n := b.random.IntN(10); {
	case n < 3:
		o = order{Do: "revoke user", Value: b.user()}
	case n < 4: // the browser is closed
		return
	}
	l.mu.Lock()
	l.ending = true
	l.mu.Unlock()
	var late sync.WaitGroup
	for range b.random.IntN(3) {
		other, to := b.order(), b.some()
		late.Go(func() {
			a := b.ask(to, other, cookie)
			if a.fresh() {
				b.ledger.suspect(suspect{l.began, a.to, other.Do + " begins a session while another request ends the one before", either(duringFailover, whileFull), nil, false})
			}
			b.note(other, answer{result: a.result, from: a.from, to: a.to})
		})
	}
	var a answer
	for deadline := time.Now().Add(time.Minute); ; b.rest(500 * time.Millisecond) {
		a = b.ask(b.some(), o, cookie)
		if a.Err == unavailable {
			b.ledger.suspect(suspect{a.from, a.to, o.Do + " fails since Redis has no memory: " + a.Text, unlessFull, nil, false})
		}
		if a.known() || time.Now().After(deadline) {
			break
		}
	}
	late.Wait()
	switch {
	case !a.known():
		b.ledger.violation("%s fails for a minute: %s", o.Do, a.Text)
		return
	case !a.ok():
		b.ledger.suspect(suspect{l.began, a.to, o.Do + " returns " + a.Err, duringFailover, nil, false})
		return
	}
	g := grave{cookie, l.owner, a.to, a.confirmed()}
	if o.Do == "revoke user" { // a login that no replica has confirmed may have lost the session's place on the list
		g.confirmed = g.confirmed && l.confirmed
	}
	b.wantDead(g, "after "+o.Do+", the id")
	value := l.owner + ":late"
	w := b.ask(b.some(), order{"set", "r0", value}, cookie)
	if w.ok() && w.to.Sub(g.at) < 4*time.Second {
		text := fmt.Sprintf("after %s, a write to the session succeeds", o.Do)
		if w.fresh() {
			b.ledger.suspect(suspect{l.began, w.to, text + " and begins another", either(duringFailover, whileFull), nil, false})
		} else {
			b.suspectLoss(l.began, w.to, g.confirmed, "logouts and rotations", text)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = append(b.dead, g)
	if len(b.dead) > 500 {
		b.dead = slices.Delete(b.dead, 0, 250)
	}
}

// suspectLoss suspects that what was written is lost, as a failover may take what no replica that takes over has. confirmed
// says that a replica has confirmed it.
func (b *browser) suspectLoss(from, to time.Time, confirmed bool, count, text string) {
	counts := []string{count}
	innocent := excuse(duringFailover)
	if confirmed {
		counts = append(counts, "of these "+count+" had been confirmed by a replica")
		if b.sure {
			innocent = nil
		}
	}
	b.ledger.suspect(suspect{from, to, text, innocent, counts, confirmed})
}

// wantDead checks that an id opens nothing.
func (b *browser) wantDead(g grave, what string) {
	a := b.ask(b.uncached(), reads["r0"], g.cookie)
	if a.Err == "" && a.Owner != "" {
		if later := b.later(g.cookie); later.Err == "" && later.Owner == "" {
			b.ledger.suspect(suspect{b.life.began, a.to, what + " has opened the session of " + a.Owner, duringFailover, []string{replacedMaster}, false})
			return
		}
		b.suspectLoss(b.life.began, a.to, g.confirmed, "logouts and rotations", what+" opens the session of "+a.Owner)
	}
}

// visitGrave checks that a session that was ended long ago has stayed dead.
func (b *browser) visitGrave() {
	b.mu.Lock()
	var g grave
	if len(b.dead) > 0 {
		g = b.dead[b.random.IntN(len(b.dead))]
	}
	b.mu.Unlock()
	if g.cookie == nil || time.Since(g.at) < 2*b.stale {
		return
	}
	a := b.ask(b.some(), reads["r0"], g.cookie)
	if a.Err == "" && a.Owner != "" {
		b.suspectLoss(g.at.Add(-time.Minute), a.to, g.confirmed, "logouts and rotations", "the session "+g.owner+" was ended and is alive again")
	}
}
