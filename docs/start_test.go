package docs_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The files of getting-started.md are compiled as they stand. Their tests pass, and the program is used as a browser
// would use it.
func TestWholeFiles(t *testing.T) {
	page, err := os.ReadFile("getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(".", "getting-started-") // in the module, so that it finds the package
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, block := range goBlocks(string(page)) {
		if !strings.HasPrefix(block, "package ") {
			continue
		}
		name := "main.go"
		if strings.Contains(block, `"testing"`) {
			name = "main_test.go"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(t.TempDir(), "shop")
	for _, command := range [][]string{{"vet", "./" + dir}, {"test", "./" + dir}, {"build", "-o", binary, "./" + dir}} {
		if out, err := exec.Command("go", command...).CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", command[0], err, out)
		}
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	program := exec.Command(binary)
	program.Env = append(os.Environ(), "REDIS_URL=", "SECRET=", "ADDR="+address)
	var log bytes.Buffer
	program.Stderr = &log
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		program.Process.Kill()
		program.Wait()
	})
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	read := func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, log.String())
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s, %v: %s", response.Status, err, body)
		}
		return string(body)
	}
	site := "http://" + address
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, step := range []struct {
		path string
		form url.Values
		want []string
	}{
		{"/cart", url.Values{"item": {"tea"}}, []string{"tea is in your cart.", "Hello, stranger. In your cart: tea"}},
		{"/login", url.Values{"user": {"ann"}}, []string{"Hello, ann. In your cart: tea"}},
		{"/logout", nil, []string{"Hello, stranger. In your cart: nothing"}},
	} {
		body := read(browser.PostForm(site+step.path, step.form))
		for _, want := range step.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: %q is not in\n%s", step.path, want, body)
			}
		}
		if strings.Contains(read(browser.Get(site)), "is in your cart.") {
			t.Error("a message was shown twice")
		}
	}
}
