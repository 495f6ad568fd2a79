package pycketotel_test

import (
	"log"

	"github.com/pycket/pycket"
	pycketotel "github.com/pycket/pycket/otel"
)

func ExampleNew() {
	telemetry, err := pycketotel.New(pycketotel.Options{}) // the global providers
	if err != nil {
		log.Fatal(err)
	}
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{"32 random bytes: openssl rand -base64 32"},
		Observe: telemetry.Observe,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	registration, err := telemetry.Register(app)
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Unregister()
	// Output:
}
