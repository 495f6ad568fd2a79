// Package tour walks through the shop with a real browser.
//
//	go test .
//	PYCKET_SHOTS=/tmp/shots go test .    # also writes what it saw
//
// It is a module of its own, so that what drives the browser is no dependency of pycket.
package tour

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/pycket/pycket/internal/redistest"
	"github.com/pycket/pycket/internal/store"
)

// patience is how long a step may take on a busy machine. No step waits for it to pass.
const patience = 60 * time.Second

// A world is a Redis, a chromium, and as many shops as a test starts.
type world struct {
	t     *testing.T
	redis *redistest.Server
	shop  string          // the program
	ctx   context.Context // of chromium
}

func newWorld(t *testing.T) *world {
	t.Helper()
	redistest.Require(t, "chromium", "chromium")
	shop := filepath.Join(t.TempDir(), "shop")
	build := exec.Command("go", "build", "-o", shop, ".")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the shop can't be built: %v\n%s", err, out)
	}

	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoFirstRun, chromedp.WSURLReadTimeout(patience)}
	for _, flag := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic",
		"disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage",
		"hide-scrollbars", "ignore-certificate-errors"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, quit := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		chromedp.Cancel(ctx) // waits until chromium has ended
		quit()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	return &world{t, redistest.StartEmbedded(t), shop, ctx}
}

// open starts a shop and returns its URL.
func (w *world) open() string {
	w.t.Helper()
	shop := exec.Command(w.shop)
	shop.Env = append(os.Environ(), "REDIS_URL="+w.redis.URL(), "SECRET=a secret for tests, and for tests only")
	shop.Stderr = os.Stderr
	out, err := shop.StdoutPipe()
	if err == nil {
		err = shop.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		shop.Process.Signal(os.Interrupt)
		if err := shop.Wait(); err != nil {
			w.t.Errorf("the shop ends with %v", err)
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, url, found := strings.Cut(lines.Text(), "Shop:   "); found {
			return strings.TrimSuffix(url, "/")
		}
	}
	w.t.Fatal("the shop does not say where it is")
	return ""
}

// secure is a shop behind a proxy that has TLS.
func (w *world) secure(shop string) string {
	target, err := url.Parse(shop)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}})
	w.t.Cleanup(proxy.Close)
	return proxy.URL
}

// longAgo makes all logins an hour older.
func (w *world) longAgo() {
	for _, key := range w.redis.Keys(0) {
		if !strings.HasPrefix(key, "shop:s:") {
			continue // it is a list of users' sessions
		}
		if _, has := w.redis.Hash(0, key)[store.AuthField]; has {
			w.redis.Do(0, "HSET", key, store.AuthField, time.Now().Add(-time.Hour).UnixMicro())
		}
	}
}

// A tab shows a page of a shop.
type tab struct {
	t    *testing.T
	ctx  context.Context
	shop string

	mu    sync.Mutex
	wrong []string // what the console says

}

// browser opens a tab in a browser of its own: what other browsers know, this one doesn't.
func (w *world) browser(shop string) *tab {
	w.t.Helper()
	return newTab(w.t, w.ctx, shop, chromedp.WithNewBrowserContext())
}

// another opens another tab in the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return newTab(b.t, b.ctx, b.shop)
}

func newTab(t *testing.T, parent context.Context, shop string, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(parent, options...)
	b := &tab{t: t, ctx: ctx, shop: shop}
	err := chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *log.EventEntryAdded: // a response that failed, or what the Content-Security-Policy forbids
			b.wrong = append(b.wrong, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		case *runtime.EventExceptionThrown:
			b.wrong = append(b.wrong, "an exception: "+e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			b.wrong = append(b.wrong, fmt.Sprintf("console: %s", e.Type))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(1000, 800))
	t.Cleanup(func() {
		closeTab()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, line := range b.wrong {
			t.Errorf("the console says: %s", line)
		}
	})
	return b
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", b.path(), err)
	}
}

// follow does what leads to another page, waits until that is loaded, and checks it.
func (b *tab) follow(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", b.path(), err)
	}
	b.inspect()
}

func (b *tab) visit(path string) {
	b.t.Helper()
	b.follow(chromedp.Navigate(b.shop + path))
}

// press clicks on the first element for which the selector holds, and waits for the page that follows.
func (b *tab) press(selector string) {
	b.t.Helper()
	b.follow(chromedp.Click(chromedp.CSS(selector)))
}

func (b *tab) login(user, password string, remember bool) {
	b.t.Helper()
	see[chromedp.Void](b, "document.querySelector(`#name`).value = ``")
	b.do(chromedp.SendKeys(chromedp.CSS("#name"), user),
		chromedp.SendKeys(chromedp.CSS("#password"), password))
	if remember {
		b.do(chromedp.Click(chromedp.CSS("[name=remember]")))
	}
	b.press("main form button")
}

// see evaluates JavaScript. That works even if the page may not.
func see[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %s: %v", b.path(), script, err)
	}
	return result
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	return see[string](b, fmt.Sprintf("document.querySelector(%q)?.innerText.trim() ?? ''", selector))
}

func (b *tab) path() string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	path, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.pathname"))
	if err != nil {
		return err.Error()
	}
	return path
}

// wants compares what the page shows: its path, and its messages.
func (b *tab) wants(path string, messages ...string) {
	b.t.Helper()
	if got := b.path(); got != path {
		b.t.Errorf("the browser is at %s, want %s", got, path)
	}
	got := see[[]string](b, "[...document.querySelectorAll('.messages li')].map(m => m.textContent)")
	if strings.Join(got, "\n") != strings.Join(messages, "\n") {
		b.t.Errorf("%s: the messages are %q, want %q", path, got, messages)
	}
}

func (b *tab) wantsText(selector, want string) {
	b.t.Helper()
	if got := b.text(selector); !strings.Contains(got, want) {
		b.t.Errorf("%s: %s is %q, want %q", b.path(), selector, got, want)
	}
}

// until waits until a condition in JavaScript holds, whatever pages are loaded meanwhile.
func (b *tab) until(condition string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if holds, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](condition)); err == nil && holds {
			return
		}
	}
	b.t.Fatalf("%s: it never became true that %s", b.path(), condition)
}

// cookie is the session's cookie as the browser keeps it.
func (b *tab) cookie() *network.Cookie {
	b.t.Helper()
	got, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{})
	if err != nil || len(got.Cookies) != 1 || got.Cookies[0].Name != "PYCKET_ID" {
		b.t.Fatalf("the cookies are %+v: %v", got.Cookies, err)
	}
	return got.Cookies[0]
}

// flaws is what a page must not have, as far as a script can tell.
const flaws = `(() => {
	const flaws = [];
	const want = (holds, flaw) => { if (!holds) flaws.push(flaw); };
	const all = (selector) => [...document.querySelectorAll(selector)];
	const shown = (e) => e.checkVisibility() && !e.closest(".unseen, .skip");
	const name = (e) => (e.getAttribute("aria-label") ?? e.textContent).trim();

	want(document.documentElement.lang === "en", "no lang");
	want(document.title.includes("·"), "no title");
	want(all("h1").length === 1, "not one h1");
	want(all("main").length === 1, "not one main");
	let level = 0;
	for (const h of all("h1, h2, h3, h4")) {
		want(Number(h.tagName[1]) <= level + 1, "a level is skipped before the heading " + name(h));
		level = Number(h.tagName[1]);
	}
	for (const field of all("input:not([type=hidden]), textarea, select")) {
		want(field.labels.length > 0 || field.ariaLabel, "no label: " + field.outerHTML);
	}
	for (const e of all("a, button")) want(name(e), "no name: " + e.outerHTML);
	const names = all("main button, main a").map(name).filter((n) => n !== "Log out Chrome on Linux");
	want(new Set(names).size === names.length, "two of one name among " + names);
	for (const image of all("img, svg")) want(image.alt || image.ariaHidden, "no alternative: " + image.outerHTML);
	const ids = all("[id]").map((e) => e.id);
	want(new Set(ids).size === ids.length, "an id twice among " + ids);
	for (const e of all("[for], [aria-labelledby], [aria-describedby]")) {
		for (const id of ["for", "aria-labelledby", "aria-describedby"].map((a) => e.getAttribute(a)).filter(Boolean)) {
			want(ids.includes(id), "there is no " + id);
		}
	}
	for (const e of all("button, nav a, input:not([type=hidden])").filter(shown)) {
		const box = e.getBoundingClientRect();
		want(Math.min(box.width, box.height) >= 24 || e.type === "checkbox" , "too small to tap: " + e.outerHTML);
	}
	want(document.documentElement.scrollWidth <= innerWidth, "wider than the screen");
	want(!document.querySelector("[style], style, [onclick]"), "styles or scripts that the policy forbids");
	return flaws;
})()`

func (b *tab) inspect() {
	b.t.Helper()
	for _, flaw := range see[[]string](b, flaws) {
		b.t.Errorf("%s: %s", b.path(), flaw)
	}
}

// shoot keeps a picture of the page, if anybody wants it.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("PYCKET_SHOTS")
	if dir == "" {
		return
	}
	shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), compress(b.t, shot), 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// compress makes a picture of at most 256 colours, those that are there most. The pages have few.
func compress(t *testing.T, shot []byte) []byte {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	bounds := picture.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA) }
	pixels := map[color.RGBA]int{}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			pixels[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(pixels), func(a, b color.RGBA) int { return pixels[b] - pixels[a] })
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	index := map[color.RGBA]uint8{}
	for _, c := range colours {
		index[c] = uint8(palette.Index(c))
	}
	smaller := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			smaller.SetColorIndex(x, y, index[at(x, y)])
		}
	}
	var encoded bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&encoded, smaller); err != nil {
		t.Fatal(err)
	}
	return encoded.Bytes()
}

// in shows the page on a screen of this size, in this scheme of colours.
func (b *tab) in(width, height int64, scheme string) {
	b.t.Helper()
	options := []chromedp.EmulateViewportOption{}
	if width < 600 {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateScale(2))
	}
	b.do(chromedp.EmulateViewport(width, height, options...))
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// everywhere inspects the page on a phone and on a desktop, light and dark, and keeps pictures.
func (b *tab) everywhere(name string) {
	b.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		for device, size := range map[string][2]int64{"phone": {360, 740}, "desktop": {1000, 800}} {
			b.in(size[0], size[1], scheme)
			b.inspect()
			b.shoot(name + "-" + device + "-" + scheme)
		}
	}
	b.in(1000, 800, "light")
}

func TestTour(t *testing.T) {
	w := newWorld(t)
	shop := w.open()

	t.Run("tour", func(t *testing.T) { w.on(t).tour(shop) })
	t.Run("tabs", func(t *testing.T) { w.on(t).tabs(shop) })
	t.Run("devices", func(t *testing.T) { w.on(t).devices(shop, w.open()) })
	t.Run("back", func(t *testing.T) { w.on(t).back(shop) })
	t.Run("keyboard", func(t *testing.T) { w.on(t).keyboard(shop) })
	t.Run("without JavaScript", func(t *testing.T) { w.on(t).withoutJavaScript(shop) })
	t.Run("https", func(t *testing.T) { w.on(t).https(shop) })
}

// on is the same world for a subtest.
func (w world) on(t *testing.T) *world {
	w.t, w.redis = t, w.redis.On(t)
	return &w
}

func (w *world) tour(shop string) {
	b := w.browser(shop)
	b.visit("/")
	b.wants("/")
	if cookies := see[string](b, "document.cookie"); cookies != "" {
		w.t.Errorf("the page's scripts see %q", cookies)
	}
	b.press(".shelf li:nth-child(2) button")
	b.wants("/", "success: Compass: added to your cart.")
	b.press(".shelf li:nth-child(4) button")
	b.wants("/", "success: Brass pen: added to your cart.")
	b.wantsText(".count", "2")
	c := b.cookie()
	if !c.HTTPOnly || c.SameSite != network.CookieSameSiteLax || c.Path != "/" || !c.Session || c.Secure {
		w.t.Errorf("the cookie is %+v, want HttpOnly, SameSite=Lax, and, over http, not Secure", c)
	}
	if cookies := see[string](b, "document.cookie"); cookies != "" {
		w.t.Errorf("the page's scripts see %q", cookies)
	}

	// 20 requests at once.
	b.do(chromedp.Click(chromedp.CSS("#pencils button")))
	b.until("document.querySelector('#kept')?.textContent === '20' && !document.querySelector('#pencils button').disabled")
	w.t.Logf("of 20 pencils, reading, changing and writing kept %s", b.text("#naive"))
	b.inspect()
	b.everywhere("shelf")

	b.visit("/cart")
	b.wantsText(".total", "€56.00")
	b.do(chromedp.SetValue(chromedp.CSS("#quantity-compass"), "3"))
	b.press("#quantity-compass ~ button")
	b.wants("/cart", "success: Compass: now 3.")
	b.wantsText(".total", "€104.00")
	b.press("form[action='/cart/pencil'] .link")
	b.wants("/cart", "success: Pencil: removed.")
	b.everywhere("cart")

	// Logging in on the way to the checkout.
	b.press("main .button")
	b.wants("/login", "warning: Please log in first.")
	b.login("ada", "wrong", false)
	b.wants("/login", "error: That is not the name and password of an account.")
	b.everywhere("login")
	before := b.cookie().Value
	b.login("ada", "analytical", true)
	b.wants("/checkout", "success: Welcome, ada.", "success: Your cart is still yours.")
	b.everywhere("checkout")
	if c := b.cookie(); c.Value == before || c.Session || c.Expires < float64(time.Now().Add(29*24*time.Hour).Unix()) {
		w.t.Errorf("after the login the cookie is %+v, want another one, for 30 days", c)
	}
	b.visit("/account")
	b.wants("/account")
	if text := b.text("main"); strings.Contains(text, "or when you close it") {
		w.t.Errorf("after remember me the account says %s", text)
	}

	// The password again.
	w.longAgo()
	b.visit("/checkout")
	b.wants("/confirm")
	b.do(chromedp.SendKeys(chromedp.CSS("#password"), "wrong"))
	b.press("main form button")
	b.wants("/confirm", "error: That is not your password.")
	b.everywhere("confirm")
	b.do(chromedp.SendKeys(chromedp.CSS("#password"), "analytical"))
	b.press("main form button")
	b.wants("/checkout")
	if c := b.cookie(); c.Session {
		w.t.Error("entering the password again has ended remember me")
	}
	b.press("main form button")
	b.wants("/order", "success: Thank you. Your order is placed.")
	b.wantsText(".bill", "€104.00")
	b.everywhere("order")
	b.follow(chromedp.Reload())
	b.wants("/order")
	b.wantsText("main", "No receipt is waiting.")

	b.press("header form button")
	b.wants("/", "success: You are logged out.")
}

// tabs shows each of several messages once, in whichever of several tabs that load at once.
func (w *world) tabs(shop string) {
	tabs := []*tab{w.browser(shop)}
	tabs[0].visit("/")
	tabs[0].press(".shelf button")
	for range 3 {
		tabs = append(tabs, tabs[0].another())
	}
	const messages = 7
	see[chromedp.Void](tabs[0], fmt.Sprintf(`(async () => {
		for (let i = 0; i < %d; i++) {
			await fetch("/cart", {method: "POST", redirect: "manual", body: new URLSearchParams({product: "torch"})});
		}
	})()`, messages))
	var loading sync.WaitGroup
	for _, b := range tabs {
		loading.Go(func() { b.do(chromedp.Navigate(shop + "/")) })
	}
	loading.Wait()
	sum := 0
	for _, b := range tabs {
		sum += see[int](b, "document.querySelectorAll('.messages li').length")
		b.wantsText(".count", "8")
	}
	if sum != messages {
		w.t.Errorf("%d messages were shown, want %d", sum, messages)
	}
}

// devices has two browsers at once, at two shops on one Redis.
func (w *world) devices(shop, other string) {
	laptop, phone := w.browser(shop), w.browser(other)
	phone.in(360, 740, "light")
	for _, b := range []*tab{laptop, phone} {
		b.visit("/login")
		b.login("grace", "compiler", false)
		b.wants("/", "success: Welcome, grace.")
	}
	laptop.visit("/account")
	if n := see[int](laptop, "document.querySelectorAll('.devices li').length"); n != 2 {
		w.t.Errorf("there are %d devices, want 2", n)
	}
	laptop.wantsText(".devices", "Chrome on Linux")
	if n := see[int](laptop, "document.querySelectorAll('.badge').length"); n != 1 {
		w.t.Errorf("%d are this device, want 1", n)
	}
	laptop.everywhere("account")
	laptop.press("form[action^='/account/devices/'] button")
	laptop.wants("/account", "success: That device is logged out.")
	phone.visit("/account")
	if got := phone.path(); got != "/login" {
		w.t.Errorf("the phone is at %s, want /login", got)
	}
	phone.login("grace", "compiler", false)
	phone.visit("/account")
	phone.press("form[action='/account/others'] button")
	phone.wants("/account", "success: One other device is logged out.")
	phone.press("form[action='/account/others'] button")
	phone.wants("/account", "warning: No other device was logged in.")
	laptop.visit("/")
	laptop.wantsText("nav", "Log in")
	phone.press("header form button")
}

// back logs out and goes back: nothing private is there.
func (w *world) back(shop string) {
	b := w.browser(shop)
	b.visit("/login")
	b.login("ada", "analytical", false)
	b.visit("/account")
	b.wantsText("#user", "ada")
	b.press("header form button")
	b.wants("/", "success: You are logged out.")
	see[chromedp.Void](b, "history.back()")
	b.until("location.pathname === '/login' && document.readyState === 'complete'")
	if html := see[string](b, "document.documentElement.outerHTML"); strings.Contains(html, "Your devices") {
		w.t.Errorf("Back shows %s", html)
	}
}

// keyboard walks through the page by the tab key.
func (w *world) keyboard(shop string) {
	b := w.browser(shop)
	b.visit("/")
	b.do(chromedp.KeyEvent("\t"))
	if got := see[string](b, "document.activeElement.textContent"); got != "Skip to the content" {
		w.t.Errorf("the first that is reached is %q", got)
	}
	b.shoot("skip")
	b.do(chromedp.KeyEvent("\r"))
	if got := see[string](b, "document.activeElement.id"); got != "main" {
		w.t.Errorf("the link to the content leads to %q", got)
	}
	for _, want := range []string{"Add Pocket notebook to cart", "Add Compass to cart", "Add Little torch to cart"} {
		b.do(chromedp.KeyEvent("\t"))
		if got := see[string](b, "document.activeElement.textContent"); got != want {
			w.t.Errorf("the tab key leads to %q, want %q", got, want)
		}
		if got := see[string](b, "getComputedStyle(document.activeElement).outlineStyle"); got != "solid" {
			w.t.Errorf("what has the focus is not shown: its outline is %s", got)
		}
	}
	b.follow(chromedp.KeyEvent("\r"))
	b.wants("/", "success: Little torch: added to your cart.")
}

func (w *world) withoutJavaScript(shop string) {
	b := w.browser(shop)
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: true})
	if err != nil {
		w.t.Fatal(err)
	}
	b.visit("/")
	b.wantsText("#pencils button", "Take a pencil")
	b.press("#pencils button")
	b.wants("/")
	b.wantsText("#kept", "1")
	b.wantsText("#naive", "1")
	b.press(".shelf button")
	b.wants("/", "success: Pocket notebook: added to your cart.")
	b.visit("/checkout")
	b.login("ada", "analytical", false)
	b.wants("/checkout", "success: Welcome, ada.", "success: Your cart is still yours.")
	b.press("main form button")
	b.wants("/order", "success: Thank you. Your order is placed.")
	b.press("header form button")
	b.wants("/", "success: You are logged out.")
}

// https looks at the cookie behind a proxy that has TLS.
func (w *world) https(shop string) {
	b := w.browser(w.secure(shop))
	b.visit("/")
	b.press(".shelf button")
	b.wants("/", "success: Pocket notebook: added to your cart.")
	if c := b.cookie(); !c.Secure || !c.HTTPOnly {
		w.t.Errorf("over https the cookie is %+v, want Secure and HttpOnly", c)
	}
}
