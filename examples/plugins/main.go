// Plugins serves the same small site through different routers and frameworks, and shows what plugs in beside them:
//
//	cd examples/plugins
//	go run . -with chi      # or mux, gin, echo, connect, servemux
//
// Each file is one of them. The site's pages are in site.go.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"log"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
)

// sites are ways to serve the site, by what routes its requests.
var sites = map[string]func(app *pycket.App) http.Handler{
	"servemux": withServeMux,
	"chi":      withChi,
	"mux":      withGorillaMux,
	"gin":      withGin,
	"echo":     withEcho,
	"connect":  withConnect,
}

func main() {
	names := strings.Join(slices.Sorted(maps.Keys(sites)), ", ")
	with := flag.String("with", "servemux", "what routes requests: "+names)
	address := flag.String("addr", "localhost:8080", "the address to listen on")
	flag.Parse()
	site := sites[*with]
	if site == nil {
		fmt.Fprintf(os.Stderr, "no example has the name %q: use one of %s\n", *with, names)
		os.Exit(2)
	}
	redis, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer redis.Close()
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{cmp.Or(os.Getenv("SECRET"), "not secret: only for trying this out")},
		Redis:   pycket.RedisSettings{URL: redis.URL()},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	log.Print("http://", *address)
	log.Fatal(http.ListenAndServe(*address, site(app)))
}
