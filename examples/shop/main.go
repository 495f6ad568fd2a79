// Shop is a small shop that shows what pycket is for: a cart that loses nothing, login and logout, one-shot messages,
// "your devices", remember me, and the password again before the checkout. The footer of each page says what the page
// has cost in Redis.
//
//	go run ./examples/shop
//
// It brings its own Redis. To keep sessions when the program ends, or to run several shops that share their logins, use
// another Redis, and each time the same secret, which signs the cookies:
//
//	export REDIS_URL=redis://localhost:6379
//	export SECRET=$(openssl rand -base64 32)
//	go run ./examples/shop -addr 127.0.0.1:8080
//
// Begin reading in shop.go, which has the routes. Then cart.go is about values, account.go about users, checkout.go
// about one-shot values and the password again, and cost.go about the footer.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"time"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

// settings are those of every shop on this Redis: two that differ in the secret or the prefix don't share logins.
func settings(secret, redisURL string) pycket.Settings {
	return pycket.Settings{
		Secrets: []string{secret},
		Redis:   pycket.RedisSettings{URL: redisURL, Prefix: "shop:"},
		Observe: observe,
	}
}

// run is the program. main passes in the outside world.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	address := flags.String("addr", "127.0.0.1:0", "`host:port` to listen on; port 0 means any free port")
	again := flags.Duration("password-again", 5*time.Minute, "how long after a login the checkout asks for the password")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}

	redisURL := os.Getenv("REDIS_URL")
	if redisURL == "" {
		redis, err := embedded.Start("127.0.0.1:0")
		if err != nil {
			return err
		}
		defer redis.Close()
		redisURL = redis.URL()
		fmt.Fprintf(stdout, "Redis:  embedded, at %s; it ends with the program (set REDIS_URL to use another)\n", redisURL)
	} else {
		fmt.Fprintf(stdout, "Redis:  %s, from REDIS_URL\n", withoutPassword(redisURL))
	}

	secret := os.Getenv("SECRET")
	if secret == "" {
		secret = rand.Text() + rand.Text()
		fmt.Fprintln(stdout, "Secret: random, so sessions end with the program (set SECRET to keep them)")
	}

	app, err := pycket.New(settings(secret, redisURL))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.Close()) }()
	// pycket connects when it first needs to. Ping finds out about a wrong URL now.
	if err := app.Ping(ctx); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Shop:   http://%s/\n", listener.Addr())
	server := &http.Server{
		Handler:           newShop(app, slog.Default(), *again).handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Let requests under way finish before Redis goes away.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

func withoutPassword(redisURL string) string {
	u, err := url.Parse(redisURL)
	if err != nil {
		return "unreadable"
	}
	u.User = nil
	return u.String()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}
