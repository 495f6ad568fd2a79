// The benchmark's own Redis: a server that is started for it, what it says of itself, and what a
// session takes in it.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gomodule/redigo/redis"
)

type redisServer struct {
	address string
	command *exec.Cmd
	conn    redis.Conn
}

// errNoRedis is what startRedis returns if redis-server is not installed.
var errNoRedis = errors.New("redis-server is not installed; the benchmark needs it in PATH")

// startRedis starts a redis-server that keeps nothing on disk. Another process may take the free port
// before it does; it is then tried again.
func startRedis(ctx context.Context) (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	for range 5 {
		var s *redisServer
		if s, err = tryRedis(ctx, program); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func tryRedis(ctx context.Context, program string) (*redisServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s := &redisServer{address: address, command: exec.Command(program, "--port", port, "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--loglevel", "warning", "--maxclients", "4000")}
	s.command.Stderr = os.Stderr
	s.command.SysProcAttr = ownGroup
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if s.conn, err = redis.DialContext(ctx, "tcp", address); err == nil {
			if err = s.isOwn(); err == nil {
				return s, nil
			}
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("redis-server on %s: %w", address, err), s.stop())
}

// isOwn makes sure that it is this server which answers on the port.
func (s *redisServer) isOwn() error {
	pid, err := s.info("server", "process_id")
	if err == nil && pid != strconv.Itoa(s.command.Process.Pid) {
		err = errors.New("another server has the port")
	}
	return err
}

// stop ends the server and waits for it.
func (s *redisServer) stop() error {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	force := time.AfterFunc(10*time.Second, func() { _ = s.command.Process.Kill() })
	defer force.Stop()
	err := s.command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) { // it was told to
		return nil
	}
	return err
}

// info reads one line of a section of INFO.
func (s *redisServer) info(section, name string) (string, error) {
	text, err := redis.String(s.conn.Do("INFO", section))
	if err != nil {
		return "", err
	}
	return infoLine(text, name)
}

func infoLine(text, name string) (string, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("redis does not say its %s", name)
}

// cpu is the processor time that the server has used.
func (s *redisServer) cpu() (time.Duration, error) {
	text, err := redis.String(s.conn.Do("INFO", "cpu"))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		seconds, err := infoLine(text, name)
		if err != nil {
			return 0, err
		}
		d, err := time.ParseDuration(seconds + "s")
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

func (s *redisServer) flush() error {
	_, err := s.conn.Do("FLUSHALL", "SYNC")
	return err
}

// inDB does something with one of the databases, and returns to the first.
func (s *redisServer) inDB(db int, do func() error) error {
	if _, err := s.conn.Do("SELECT", db); err != nil {
		return err
	}
	err := do()
	_, back := s.conn.Do("SELECT", 0)
	return errors.Join(err, back)
}

// memory sums up what all keys of sessions and notifications take.
func (s *redisServer) memory() (total int, err error) {
	for db := range 2 {
		err := s.inDB(db, func() error {
			keys, err := redis.Strings(s.conn.Do("KEYS", "*"))
			if err != nil {
				return err
			}
			for _, key := range keys {
				n, err := redis.Int(s.conn.Do("MEMORY", "USAGE", key, "SAMPLES", 0))
				if err != nil {
					return err
				}
				total += n
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

// copyScript copies one key to many.
var copyScript = redis.NewScript(1, `
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
	redis.call('COPY', KEYS[1], KEYS[1] .. ':' .. i)
end`)

// fillUp makes copies of some key of a database until it has n keys.
func (s *redisServer) fillUp(db, n int) error {
	return s.inDB(db, func() error {
		size, err := redis.Int(s.conn.Do("DBSIZE"))
		if err != nil {
			return err
		}
		key, err := redis.String(s.conn.Do("RANDOMKEY"))
		if err != nil {
			return err
		}
		const batch = 10_000 // a script that runs long keeps everybody waiting
		for from := size + 1; from <= n; from += batch {
			if _, err := copyScript.Do(s.conn, key, from, min(from+batch-1, n)); err != nil {
				return err
			}
		}
		return nil
	})
}
