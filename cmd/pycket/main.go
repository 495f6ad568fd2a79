// Pycket is what an operator of an application with [github.com/pycket/pycket] needs at hand: it makes secrets, says
// whether Redis is set up well, and looks at sessions, counts and ends them. See docs/command.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/internal/store"
)

// Exit codes.
const (
	exitOK          = 0
	exitFound       = 1 // doctor has found a problem, there is no such session, or anything else went wrong
	exitUsage       = 2 // the arguments or the environment are wrong
	exitUnavailable = 3 // Redis can't be reached, or doesn't do what was asked
)

const description = `Makes secrets, says whether Redis is set up well, and looks at sessions, counts and ends them.

Which Redis it is, and secrets, are read from the environment, never from flags, which other users of the machine can see:

  REDIS_URL                as RedisSettings.URL: redis://user:password@host:port/database, rediss:// for TLS
  REDIS_CLUSTER            some servers of a cluster, host:port,host:port; REDIS_URL then names none
  REDIS_SENTINEL_MASTER    the name of the master that sentinels watch; REDIS_URL then names no server
  REDIS_SENTINELS          the sentinels, host:port,host:port
  REDIS_SENTINEL_USER, REDIS_SENTINEL_PASSWORD, and REDIS_SENTINEL_TLS=1 for TLS
  SECRET                   the application's secret, or
  SECRETS                  several, the newest first, separated by commas or white space

Each may be in a file that NAME_FILE names, such as SECRETS_FILE, with one secret a line.

Exit codes: 0 if all is well; 1 if doctor has found a problem, or there is no such session; 2 if the arguments or the environment are wrong; 3 if Redis can't be used.`

const examples = `Examples:

  pycket keygen
  REDIS_URL=redis://localhost pycket doctor
  pycket sessions ann
  pycket revoke --user ann
  pycket count --json`

// A grammar is the command line.
type grammar struct {
	options

	Keygen   keygen   `cmd:"" help:"Make a secret."`
	Doctor   doctor   `cmd:"" help:"Say whether Redis is set up well, and what to do."`
	Sessions sessions `cmd:"" help:"List the sessions of a user."`
	Show     show     `cmd:"" help:"Show what is stored of a session."`
	Count    count    `cmd:"" help:"Count the sessions that are alive."`
	Revoke   revoke   `cmd:"" help:"End a session, or all sessions of a user."`
	Watch    watch    `cmd:"" help:"Say how many sessions begin, rotate and end."`
}

// Help implements kong.HelpProvider.
func (*grammar) Help() string { return examples }

// options are the flags of all commands: settings of the application that Redis can't be read without.
type options struct {
	JSON            bool          `name:"json" help:"Print JSON."`
	Prefix          string        `default:"pycket:" help:"The application's RedisSettings.Prefix."`
	DBSessions      *int          `name:"db-sessions" placeholder:"N" help:"Its DBSessions, if it is not the default."`
	DBNotifications *int          `name:"db-notifications" placeholder:"N" help:"Its DBNotifications, if it is not the default."`
	Timeout         time.Duration `default:"3s" help:"How long Redis has for each step."`
}

// A tool is what commands run with.
type tool struct {
	options
	context.Context
	environment
	out, err output
}

// A usageError says what is wrong with the arguments or the environment.
type usageError struct{ error }

// errFound means that doctor has found a problem, and has said so.
var errFound = errors.New("a problem was found")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// handlesLast puts handles that begin with "-" behind "--", since they are no flags. One of 64 does.
func handlesLast(args []string) []string {
	var others, handles []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") && store.IsHandle(arg) {
			handles = append(handles, arg)
		} else {
			others = append(others, arg)
		}
	}
	if len(handles) == 0 || slices.Contains(args, "--") {
		return args
	}
	return slices.Concat(others, []string{"--"}, handles)
}

// run carries out a command line and returns the exit code.
func run(ctx context.Context, args []string, env environment, stdout, stderr io.Writer) int {
	var line grammar
	exited := false // by --help
	parser := kong.Must(&line, kong.Name("pycket"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(handlesLast(args))
	if exited {
		return exitOK
	}
	t := &tool{options: line.options, Context: ctx, environment: env, out: newOutput(stdout, env), err: newOutput(stderr, env)}
	if err != nil {
		fmt.Fprintf(t.err, "pycket: %s; see pycket --help\n", plain(err.Error()))
		return exitUsage
	}
	err = parsed.Run(t)
	if err != nil && !errors.Is(err, errFound) {
		fmt.Fprintf(t.err, "pycket: %s\n", plain(fromSettings.Replace(strings.TrimPrefix(err.Error(), "pycket: "))))
	}
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.Is(err, pycket.ErrUnavailable):
		return exitUnavailable
	default:
		return exitFound
	}
}
