package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/coder/websocket"
	"golang.org/x/oauth2"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/pyckettest"
)

func newApp(t *testing.T) *pycket.App {
	t.Helper()
	return pyckettest.New(t, pycket.Settings{Logger: slog.New(slog.DiscardHandler)}).App
}

// browse serves a handler to a browser that keeps cookies.
func browse(t *testing.T, handler http.Handler) *browser {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	jar, _ := cookiejar.New(nil)
	return &browser{t, server.URL, &http.Client{Jar: jar, Timeout: 30 * time.Second}}
}

type browser struct {
	t    *testing.T
	site string
	*http.Client
}

// page returns the status and body of an answer.
func (b *browser) page(response *http.Response, err error) (int, string) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// wants compares a page: each text is on it or, after a "!", is not.
func (b *browser) wants(path string, form url.Values, texts ...string) {
	b.t.Helper()
	get := func() (*http.Response, error) { return b.Get(b.site + path) }
	if form != nil {
		get = func() (*http.Response, error) { return b.PostForm(b.site+path, form) }
	}
	status, body := b.page(get())
	for _, text := range texts {
		unwanted, not := strings.CutPrefix(text, "!")
		if status != http.StatusOK || strings.Contains(body, unwanted) == not {
			b.t.Errorf("%s: want %q, got %d %s", path, text, status, body)
		}
	}
}

// Every way to serve the site serves the same site.
func TestSites(t *testing.T) {
	for name, with := range sites {
		t.Run(name, func(t *testing.T) {
			b := browse(t, with(newApp(t)))
			b.wants("/", nil, "Hello, stranger. Visit 1.", "!logged in")
			b.wants("/", nil, "Visit 2.")
			b.wants("/login", url.Values{"user": {"ann"}}, "Hello, ann. Visit 3.", "You are logged in as ann.")
			b.wants("/", nil, "Hello, ann. Visit 4.", "!logged in")
			b.wants("/logout", url.Values{}, "Hello, stranger. Visit 1.")
		})
	}
}

func TestOtherSitesMayNotPost(t *testing.T) {
	b := browse(t, withServeMux(newApp(t)))
	r, _ := http.NewRequest("POST", b.site+"/login", strings.NewReader("user=eve"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if status, _ := b.page(b.Do(r)); status != http.StatusForbidden {
		t.Errorf("a form of another site: %d", status)
	}
}

// A procedure counts in the session of the pages, and may begin it.
func TestConnect(t *testing.T) {
	b := browse(t, withConnect(newApp(t)))
	count := connect.NewClient[emptypb.Empty, wrapperspb.Int64Value](b.Client, b.site+visitsProcedure)
	for want := range int64(2) {
		answer, err := count.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
		if err != nil || answer.Msg.Value != want+1 {
			t.Fatalf("%v, %v", answer, err)
		}
	}
	b.wants("/", nil, "Visit 3.")
}

// provider is another site that knows ann, and checks the verifier as RFC 7636 says.
func provider(t *testing.T) *httptest.Server {
	t.Helper()
	challenges := make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		challenges <- r.FormValue("code_challenge")
		back := r.FormValue("redirect_uri") + "?" + url.Values{"code": {"ann's"}, "state": {r.FormValue("state")}}.Encode()
		http.Redirect(w, r, back, http.StatusSeeOther)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier")) != <-challenges {
			http.Error(w, `{"error": "invalid_grant"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "token", "token_type": "Bearer"}`)
	})
	mux.HandleFunc("GET /account", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"sub": "ann"}`) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func TestOAuth2(t *testing.T) {
	other := provider(t)
	app := newApp(t)
	config := &oauth2.Config{
		ClientID: "shop",
		Endpoint: oauth2.Endpoint{AuthURL: other.URL + "/authorize", TokenURL: other.URL + "/token"},
	}
	login := OAuth{Config: config, Account: other.URL + "/account"}
	mux := http.NewServeMux()
	mux.Handle("GET /oauth", pycket.HandlerFunc(login, (*OAuth).Begin))
	mux.Handle("GET /callback", pycket.HandlerFunc(login, (*OAuth).Callback))
	mux.Handle("/", withServeMux(app))
	b := browse(t, app.Wrap(mux))
	config.RedirectURL = b.site + "/callback"

	var callback string
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/callback" {
			callback = r.URL.String()
		}
		return nil
	}
	b.wants("/oauth", nil, "Hello, ann.")
	for name, client := range map[string]*http.Client{"again": b.Client, "in another browser": {}} {
		if status, _ := b.page(client.Get(callback)); status != http.StatusBadRequest {
			t.Errorf("the callback %s: %d", name, status)
		}
	}
	if status, _ := b.page(b.Get(b.site + "/callback?code=ann's")); status != http.StatusBadRequest {
		t.Errorf("a callback that was not begun: %d", status)
	}
}

func TestEvents(t *testing.T) {
	app := newApp(t)
	ticks := make(chan time.Time)
	mux := http.NewServeMux()
	mux.Handle("GET /events", pycket.Handler(Events{Ticks: ticks}))
	mux.Handle("/", withServeMux(app))
	b := browse(t, app.Wrap(mux))
	b.wants("/login", url.Values{"user": {"ann"}}, "Hello, ann.")
	stream, err := b.Get(b.site + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	event := make([]byte, len("data: hello ann\n\n"))
	for i := range 3 {
		if i > 0 {
			ticks <- time.Now()
		}
		if _, err := io.ReadFull(stream.Body, event); err != nil || string(event) != "data: hello ann\n\n" {
			t.Fatalf("%q, %v", event, err)
		}
	}
	if _, err := app.RevokeUser(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	ticks <- time.Now()
	if rest, err := io.ReadAll(stream.Body); len(rest) > 0 || err != nil {
		t.Errorf("after the revoke: %q, %v", rest, err)
	}
}

func TestSocket(t *testing.T) {
	app := newApp(t)
	mux := http.NewServeMux()
	mux.Handle("/socket", pycket.Handler(Socket{}))
	mux.Handle("/", withServeMux(app))
	b := browse(t, app.Wrap(mux))
	conn, _, err := websocket.Dial(t.Context(), b.site+"/socket", &websocket.DialOptions{HTTPClient: b.Client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	ask := func(text string) (string, error) {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			return "", err
		}
		_, answer, err := conn.Read(t.Context())
		return string(answer), err
	}
	if answer, err := ask("hello"); answer != "stored" || err != nil {
		t.Fatalf("%q, %v", answer, err)
	}
	b.wants("/logout", url.Values{}, "Hello, stranger.")
	if answer, err := ask("late"); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("after the logout: %q, %v", answer, err)
	}
}
