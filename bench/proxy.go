// A proxy in front of Redis that keeps what commands were sent, and counts round trips.

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A proxy passes on what clients and Redis say. A command is an array of the protocol. A round trip is
// whatever a client sends before Redis answers.
type proxy struct {
	listener     net.Listener
	redisAddress string
	roundTrips   atomic.Int64

	mutex    sync.Mutex
	commands []command // since they were taken last
}

func startProxy(redisAddress string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, redisAddress: redisAddress}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // it was stopped
			}
			go p.serve(client)
		}
	}()
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// take returns the commands since the last call.
func (p *proxy) take() []command {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	commands := p.commands
	p.commands = nil
	return commands
}

func (p *proxy) keep(c command) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.commands = append(p.commands, c)
}

func (p *proxy) stop() error { return p.listener.Close() }

// serve ends with either side; the other one finds its connection closed.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	redis, err := net.Dial("tcp", p.redisAddress)
	if err != nil {
		return
	}
	defer redis.Close()
	var answered atomic.Bool
	answered.Store(true)
	go func() {
		defer client.Close()
		buffer := make([]byte, 16<<10)
		for {
			n, err := redis.Read(buffer)
			answered.Store(true) // before the client has it and goes on
			if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
				return
			}
		}
	}()
	commands := bufio.NewReader(client)
	inTransaction := false
	for {
		sent, args, err := readCommand(commands)
		if err != nil {
			return
		}
		inTransaction = inTransaction && !strings.EqualFold(args[0], "EXEC")
		p.keep(command{args, inTransaction})
		inTransaction = inTransaction || strings.EqualFold(args[0], "MULTI")
		if answered.Swap(false) {
			p.roundTrips.Add(1)
		}
		if _, err := redis.Write(sent); err != nil {
			return
		}
	}
}

var errNoCommand = errors.New("this is no command of the Redis protocol")

// readCommand reads one array of bulk strings, and gives it as it was sent, too.
func readCommand(r *bufio.Reader) (sent []byte, args []string, err error) {
	var buffer bytes.Buffer
	number := func(kind byte) (int, error) {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		buffer.Write(line)
		if line[0] != kind {
			return 0, errNoCommand
		}
		return strconv.Atoi(string(bytes.TrimRight(line[1:], "\r\n")))
	}
	items, err := number('*')
	if err != nil {
		return nil, nil, err
	}
	if items < 1 {
		return nil, nil, errNoCommand
	}
	for range items {
		length, err := number('$')
		if err != nil {
			return nil, nil, err
		}
		if _, err := io.CopyN(&buffer, r, int64(length)+2); err != nil {
			return nil, nil, err
		}
		end := buffer.Len() - 2
		args = append(args, string(buffer.Bytes()[end-length:end]))
	}
	return buffer.Bytes(), args, nil
}
