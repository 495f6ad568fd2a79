// A proxy in front of Redis that counts commands and round trips.

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
)

// A proxy passes on what clients and Redis say. A command is an array of the protocol. A round trip is
// whatever a client sends before Redis answers.
type proxy struct {
	listener             net.Listener
	redisAddress         string
	commands, roundTrips atomic.Int64
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
	for {
		command, err := readCommand(commands)
		if err != nil {
			return
		}
		p.commands.Add(1)
		if answered.Swap(false) {
			p.roundTrips.Add(1)
		}
		if _, err := redis.Write(command); err != nil {
			return
		}
	}
}

var errNoCommand = errors.New("this is no command of the Redis protocol")

// readCommand reads one array of bulk strings, and gives it as it was sent.
func readCommand(r *bufio.Reader) ([]byte, error) {
	var command bytes.Buffer
	number := func(kind byte) (int, error) {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		command.Write(line)
		if line[0] != kind {
			return 0, errNoCommand
		}
		return strconv.Atoi(string(bytes.TrimRight(line[1:], "\r\n")))
	}
	items, err := number('*')
	if err != nil {
		return nil, err
	}
	for range items {
		length, err := number('$')
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(&command, r, int64(length)+2); err != nil {
			return nil, err
		}
	}
	return command.Bytes(), nil
}
