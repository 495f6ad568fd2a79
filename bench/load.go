// The load generator that is used where wrk is not: requests over keep-alive connections, as light as can be, since it
// shares the processors with what it measures. Every answer is checked. Before wrk's turns it warms up and checks.

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// patience is how long the last answers may take.
const patience = 10 * time.Second

// A browser is an open connection to one app, over which visitors take turns.
type browser struct {
	visitors []*visitor
	address  string
	deadline time.Time // of all requests together
	conn     net.Conn
	reader   *bufio.Reader
	requests [][]byte // of the visitors
	body     []byte
}

func newBrowser(visitors []*visitor, address, path string, deadline time.Time) (*browser, error) {
	b := &browser{visitors: visitors, address: address, deadline: deadline}
	for _, v := range visitors {
		request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\n"
		if v.cookie != "" {
			request += "Cookie: " + v.cookie + "\r\n"
		}
		b.requests = append(b.requests, []byte(request+"\r\n"))
	}
	return b, b.dial()
}

func (b *browser) dial() (err error) {
	if b.conn, err = net.Dial("tcp", b.address); err != nil {
		return err
	}
	b.reader = bufio.NewReader(b.conn)
	return b.conn.SetDeadline(b.deadline)
}

func (b *browser) close() { _ = b.conn.Close() }

// get sends the request of a visitor and reads the answer. What it returns lasts until the next call.
func (b *browser) get(visitor int) (status int, body []byte, cookie []byte, err error) {
	if _, err := b.conn.Write(b.requests[visitor]); err != nil {
		return 0, nil, nil, err
	}
	status, b.body, cookie, err = readResponse(b.reader, b.body[:0])
	return status, b.body, cookie, err
}

var errBadResponse = errors.New("this is no HTTP/1.1 response")

// readResponse reads as much of HTTP/1.1 as net/http's server uses to answer a GET. The body is
// appended to a buffer.
func readResponse(r *bufio.Reader, buffer []byte) (status int, body, cookie []byte, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, buffer, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, buffer, nil, errBadResponse
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, buffer, nil, errBadResponse
	}
	length, chunked := 0, false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, buffer, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, buffer, nil, errBadResponse
			}
		case "Transfer-Encoding":
			chunked = string(value) == "chunked"
		case "Set-Cookie":
			pair, _, _ := bytes.Cut(value, []byte(";"))
			cookie = bytes.Clone(pair)
		}
	}
	if !chunked {
		body, err = readInto(r, buffer, length)
		return status, body, cookie, err
	}
	body, err = readChunks(r, buffer)
	return status, body, cookie, err
}

func readChunks(r *bufio.Reader, body []byte) ([]byte, error) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return body, err
		}
		n, err := strconv.ParseUint(string(bytes.TrimRight(line, "\r\n")), 16, 31)
		if err != nil {
			return body, errBadResponse
		}
		if body, err = readInto(r, body, int(n)); err != nil {
			return body, err
		}
		if _, err := r.Discard(2); err != nil { // the end of the chunk, or of all
			return body, err
		}
		if n == 0 {
			return body, nil
		}
	}
}

func readInto(r *bufio.Reader, body []byte, n int) ([]byte, error) {
	start := len(body)
	body = append(body, make([]byte, n)...)
	_, err := io.ReadFull(r, body[start:])
	return body, err
}

// visit makes new visitors, at a path that gives each a session.
func visit(address, path string, n int) ([]*visitor, error) {
	b, err := newBrowser([]*visitor{{}}, address, path, time.Now().Add(6*patience))
	if err != nil {
		return nil, err
	}
	defer b.close()
	visitors := make([]*visitor, n)
	for i := range visitors {
		status, body, cookie, err := b.get(0)
		if err != nil {
			return nil, err
		}
		if status != 200 || cookie == nil {
			return nil, fmt.Errorf("%s gave no session: status %d, %q", path, status, body)
		}
		visitors[i] = &visitor{cookie: string(cookie), seen: true}
	}
	return visitors, nil
}

// A slice is what one contestant did in its turn of a round.
type slice struct {
	requests, failures int
	elapsed            time.Duration
	p50, p99           time.Duration
	appCPU, redisCPU   time.Duration
	commands           map[string]commandUse
}

func (s *slice) throughput() float64 { return float64(s.requests) / s.elapsed.Seconds() }

// cpu is the processor time per request of application and Redis.
func (s *slice) cpu() float64 {
	return (s.appCPU + s.redisCPU).Seconds() / float64(s.requests)
}

// load lets all browsers send requests, one after the other's answer, for some time.
func load(browsers []*browser, check func(*visitor, []byte, bool) bool, d time.Duration) *slice {
	latencies := make([]histogram, len(browsers)) // of what was answered right
	failures := make([]int, len(browsers))
	start := time.Now()
	var group sync.WaitGroup
	for i, b := range browsers {
		group.Go(func() { failures[i] = b.run(check, start.Add(d), &latencies[i]) })
	}
	group.Wait()
	sum := &slice{elapsed: time.Since(start)}
	var all histogram
	for i := range browsers {
		sum.failures += failures[i]
		all.merge(&latencies[i])
	}
	sum.requests, sum.p50, sum.p99 = all.total, all.quantile(0.5), all.quantile(0.99)
	return sum
}

func (b *browser) run(check func(*visitor, []byte, bool) bool, end time.Time, latencies *histogram) (failures int) {
	turn := 0
	for now := time.Now(); now.Before(end); turn = (turn + 1) % len(b.visitors) {
		status, body, cookie, err := b.get(turn)
		began := now
		now = time.Now()
		if err == nil && status == 200 && check(b.visitors[turn], body, cookie != nil) {
			latencies.add(now.Sub(began))
			continue
		}
		failures++
		if err != nil { // the connection is of no more use
			b.close()
			if b.dial() != nil {
				break
			}
		}
	}
	return failures
}
