// The applications that are compared: each library used the way its documentation shows, with gob or
// JSON as is its default, an expiry of 30 minutes, and at most 64 connections to Redis.

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/alexedwards/scs/redisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/boj/redistore"
	ginsessions "github.com/gin-contrib/sessions"
	ginredis "github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
	"github.com/gomodule/redigo/redis"
	"github.com/gorilla/sessions"
	"github.com/pycket/pycket"
	rbcervilla "github.com/rbcervilla/redisstore/v9"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

const (
	idleTimeout = 30 * time.Minute
	idleSeconds = int(idleTimeout / time.Second)
	connections = 64
	secret      = "this secret of a benchmark has 48 bytes, not less"
	cookieName  = "session" // of the gorilla stores, which have no default
)

// apps open each application on a Redis. It stays open as long as the process.
var apps = map[string]func(address string) (http.Handler, error){
	"floor":      openFloor,
	"rueidis":    openRueidis,
	"pycket":     openPycket,
	"scs":        openSCS,
	"boj":        openBoj,
	"rbcervilla": openRbcervilla,
	"gin":        openGin,
}

var plainText = []string{"text/plain; charset=utf-8"}

// answer ends every handler. It names the content type so that net/http need not guess it.
func answer(w http.ResponseWriter, body string, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = plainText
	_, _ = io.WriteString(w, body) // fails only if the client went away
}

func idle(w http.ResponseWriter, _ *http.Request) { answer(w, idleAnswer, nil) }

// newPool is a pool of redigo for whoever takes one. redistore's own would send a PING before every
// command; it is given this one, which doesn't, to its advantage.
func newPool(address string) *redis.Pool {
	return &redis.Pool{
		MaxIdle:   connections,
		MaxActive: connections,
		Wait:      true,
		Dial:      func() (redis.Conn, error) { return redis.Dial("tcp", address) },
	}
}

// floor is the handlers without a session library. They do less than any session must: no signature, no
// middleware, and the key is the cookie as it came.
type floor struct{ pool *redis.Pool }

func openFloor(address string) (http.Handler, error) {
	f := floor{newPool(address)}
	mux := http.NewServeMux()
	mux.HandleFunc("/read", f.read)
	mux.HandleFunc("/count", f.count)
	mux.HandleFunc("/idle", idle)
	mux.HandleFunc("/first", f.first)
	mux.HandleFunc("/fill", f.fill)
	mux.HandleFunc("/wide", f.wide)
	mux.HandleFunc("/page", f.page)
	return mux, nil
}

func keyOf(r *http.Request) string {
	return "floor:" + strings.TrimPrefix(r.Header.Get("Cookie"), "id=")
}

func (f floor) read(w http.ResponseWriter, r *http.Request) {
	c := f.pool.Get()
	defer c.Close()
	value, err := redis.String(c.Do("GET", keyOf(r)))
	answer(w, value, err)
}

// count gets and sets another key than the one that /first made, as a counter is another value.
func (f floor) count(w http.ResponseWriter, r *http.Request) {
	c := f.pool.Get()
	defer c.Close()
	key := keyOf(r) + ":n"
	n, err := redis.Int(c.Do("GET", key))
	if err == nil || err == redis.ErrNil {
		n++
		_, err = c.Do("SETEX", key, idleSeconds, n)
	}
	answer(w, strconv.Itoa(n), err)
}

// first sends a cookie, in the cheapest way: a visit that no second one can follow is no first one.
func (f floor) first(w http.ResponseWriter, _ *http.Request) {
	f.make(w, userValue)
}

func (f floor) fill(w http.ResponseWriter, _ *http.Request) {
	f.make(w, wideNumber(1)+strings.Repeat("x", blobBytes-40))
}

func (f floor) make(w http.ResponseWriter, value string) {
	c := f.pool.Get()
	defer c.Close()
	id := rand.Text()
	_, err := c.Do("SETEX", "floor:"+id, idleSeconds, value)
	w.Header()["Set-Cookie"] = []string{"id=" + id}
	answer(w, firstAnswer, err)
}

func (f floor) wide(w http.ResponseWriter, r *http.Request) {
	c := f.pool.Get()
	defer c.Close()
	key := keyOf(r)
	blob, err := redis.Bytes(c.Do("GET", key))
	var value, next string
	if err == nil {
		value = string(blob[:40])
		next, err = nextWideNumber(value)
	}
	if err == nil {
		copy(blob, next)
		_, err = c.Do("SETEX", key, idleSeconds, blob)
	}
	answer(w, value, err)
}

// page takes all messages in one step, so that none is shown twice.
func (f floor) page(w http.ResponseWriter, r *http.Request) {
	c := f.pool.Get()
	defer c.Close()
	key := keyOf(r)
	err := errors.Join(c.Send("GET", key), c.Send("LPOP", key+":messages", 1000), c.Flush())
	var value string
	var messages []string
	if err == nil {
		value, err = redis.String(c.Receive())
	}
	if err == nil {
		messages, err = redis.Strings(c.Receive())
	}
	if err == redis.ErrNil {
		err = nil
	}
	answer(w, value+strings.Join(messages, ""), err)
}

// openRueidis gives the floor's GET through a client that sends the commands of all requests that are
// under way together, over few connections, and once more through its client-side cache.
func openRueidis(address string) (http.Handler, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		value, err := client.Do(r.Context(), client.B().Get().Key(keyOf(r)).Build()).ToString()
		answer(w, value, err)
	})
	mux.HandleFunc("/cached", func(w http.ResponseWriter, r *http.Request) {
		// As long as pycket trusts what it has read, at most.
		value, err := client.DoCache(r.Context(), client.B().Get().Key(keyOf(r)).Cache(), idleTimeout/10).ToString()
		answer(w, value, err)
	})
	mux.HandleFunc("/first", func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		err := client.Do(r.Context(), client.B().Setex().Key("floor:"+id).Seconds(int64(idleSeconds)).Value(userValue).Build()).Error()
		w.Header()["Set-Cookie"] = []string{"id=" + id}
		answer(w, firstAnswer, err)
	})
	return mux, nil
}

// pycketSettings are those of a Redis and one of its databases.
func pycketSettings(address string, db int) pycket.Settings {
	return pycket.Settings{
		Secrets:     []string{secret},
		IdleTimeout: idleTimeout,
		Redis:       pycket.RedisSettings{URL: "redis://" + address, DBSessions: &db, MaxConnections: connections},
	}
}

// pages is a handler as a user of pycket would write it.
type pages struct{ pycket.SessionMixin }

// messagePage is a handler that shows messages, too.
type messagePage struct {
	pycket.SessionMixin
	pycket.NotificationMixin
}

func openPycket(address string) (http.Handler, error) { return openPages(pycketSettings(address, 0)) }

func openPages(settings pycket.Settings) (http.Handler, error) {
	app, err := pycket.New(settings)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/read", pycket.HandlerFunc(pages{}, (*pages).read))
	mux.Handle("/count", pycket.HandlerFunc(pages{}, (*pages).count))
	mux.Handle("/increment", pycket.HandlerFunc(pages{}, (*pages).increment))
	mux.HandleFunc("/idle", idle)
	mux.Handle("/first", pycket.HandlerFunc(pages{}, (*pages).first))
	mux.Handle("/fill", pycket.HandlerFunc(pages{}, (*pages).fill))
	mux.Handle("/wide", pycket.HandlerFunc(pages{}, (*pages).wide))
	mux.Handle("/page", pycket.Handler(messagePage{}))
	return app.Wrap(mux), nil
}

func (p *pages) read(w http.ResponseWriter, _ *http.Request) {
	value, err := pycket.Get(p.Session(), "user", "")
	answer(w, value, err)
}

func (p *pages) count(w http.ResponseWriter, _ *http.Request) {
	n, err := pycket.Get(p.Session(), "count", 0)
	if err == nil {
		n, err = pycket.Update(p.Session(), "count", 0, func(n int) (int, error) { return n + 1, nil })
	}
	answer(w, strconv.Itoa(n), err)
}

func (p *pages) increment(w http.ResponseWriter, _ *http.Request) {
	n, err := p.Session().Increment("count", 1)
	answer(w, strconv.FormatInt(n, 10), err)
}

func (p *pages) first(w http.ResponseWriter, _ *http.Request) {
	answer(w, firstAnswer, p.Session().Set("user", userValue))
}

func (p *pages) fill(w http.ResponseWriter, _ *http.Request) {
	answer(w, firstAnswer, p.Session().SetMany(fields(wideFields)))
}

// fields are n values of 40 bytes.
func fields(n int) pycket.Values {
	values := pycket.Values{}
	for i := range n {
		values[fieldName(i)] = wideNumber(1)
	}
	return values
}

func (p *pages) wide(w http.ResponseWriter, _ *http.Request) {
	value, err := pycket.Get(p.Session(), wideField, "")
	var next string
	if err == nil {
		next, err = nextWideNumber(value)
	}
	if err == nil {
		err = p.Session().Set(wideField, next)
	}
	answer(w, value, err)
}

func (p *messagePage) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	value, err := pycket.Get(p.Session(), "user", "")
	var messages []pycket.Message
	if err == nil {
		messages, err = p.Notifications().Drain()
	}
	for _, message := range messages {
		value += message.Text
	}
	answer(w, value, err)
}

// openSCS sets IdleTimeout, so that a session that is used does not end.
func openSCS(address string) (http.Handler, error) {
	manager := scs.New()
	manager.Store = redisstore.New(newPool(address))
	manager.IdleTimeout = idleTimeout
	mux := http.NewServeMux()
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		answer(w, manager.GetString(r.Context(), "user"), nil)
	})
	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		n := manager.GetInt(r.Context(), "count") + 1
		manager.Put(r.Context(), "count", n)
		answer(w, strconv.Itoa(n), nil)
	})
	mux.HandleFunc("/idle", idle)
	mux.HandleFunc("/first", func(w http.ResponseWriter, r *http.Request) {
		manager.Put(r.Context(), "user", userValue)
		answer(w, firstAnswer, nil)
	})
	mux.HandleFunc("/fill", func(w http.ResponseWriter, r *http.Request) {
		for name, value := range fields(wideFields) {
			manager.Put(r.Context(), name, value)
		}
		answer(w, firstAnswer, nil)
	})
	mux.HandleFunc("/wide", func(w http.ResponseWriter, r *http.Request) {
		value := manager.GetString(r.Context(), wideField)
		next, err := nextWideNumber(value)
		if err == nil {
			manager.Put(r.Context(), wideField, next)
		}
		answer(w, value, err)
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		answer(w, manager.GetString(r.Context(), "user")+manager.PopString(r.Context(), "message"), nil)
	})
	return manager.LoadAndSave(mux), nil
}

func openBoj(address string) (http.Handler, error) {
	store, err := redistore.NewRediStoreWithPool(newPool(address), []byte(secret))
	if err != nil {
		return nil, err
	}
	store.SetMaxAge(idleSeconds)
	return openGorilla(store), nil
}

func openRbcervilla(address string) (http.Handler, error) {
	client := goredis.NewClient(&goredis.Options{Addr: address, PoolSize: connections})
	store, err := rbcervilla.NewRedisStore(context.Background(), client)
	if err != nil {
		return nil, err
	}
	store.Options(sessions.Options{Path: "/", MaxAge: idleSeconds})
	return openGorilla(store), nil
}

// openGorilla makes handlers for any store of gorilla/sessions.
func openGorilla(store sessions.Store) http.Handler {
	mux := http.NewServeMux()
	// page serves a path by a change of the session, which is saved if the path says so.
	page := func(path string, save bool, change func(values map[any]any) (string, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			session, err := store.Get(r, cookieName)
			var body string
			if err == nil {
				body, err = change(session.Values)
			}
			if err == nil && save {
				err = session.Save(r, w)
			}
			answer(w, body, err)
		})
	}
	read := func(values map[any]any) (string, error) {
		value, _ := values["user"].(string)
		return value, nil
	}
	page("/read", false, read)
	page("/renew", true, read)
	page("/count", true, func(values map[any]any) (string, error) {
		n, _ := values["count"].(int)
		values["count"] = n + 1
		return strconv.Itoa(n + 1), nil
	})
	page("/first", true, func(values map[any]any) (string, error) {
		values["user"] = userValue
		return firstAnswer, nil
	})
	page("/fill", true, func(values map[any]any) (string, error) {
		for name, value := range fields(wideFields) {
			values[name] = value
		}
		return firstAnswer, nil
	})
	page("/wide", true, func(values map[any]any) (string, error) {
		value, _ := values[wideField].(string)
		next, err := nextWideNumber(value)
		values[wideField] = next
		return value, err
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, cookieName)
		var body string
		if err == nil {
			body, _ = session.Values["user"].(string)
			if flashes := session.Flashes(); len(flashes) > 0 {
				body += fmt.Sprint(flashes...)
				err = session.Save(r, w)
			}
		}
		answer(w, body, err)
	})
	return mux
}

func openGin(address string) (http.Handler, error) {
	store, err := ginredis.NewStoreWithPool(newPool(address), []byte(secret))
	if err != nil {
		return nil, err
	}
	store.Options(ginsessions.Options{Path: "/", MaxAge: idleSeconds})
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(ginsessions.Sessions(cookieName, store))
	engine.GET("/read", func(c *gin.Context) {
		value, _ := ginsessions.Default(c).Get("user").(string)
		answer(c.Writer, value, nil)
	})
	engine.GET("/count", func(c *gin.Context) {
		session := ginsessions.Default(c)
		n, _ := session.Get("count").(int)
		session.Set("count", n+1)
		answer(c.Writer, strconv.Itoa(n+1), session.Save())
	})
	engine.GET("/idle", func(c *gin.Context) { idle(c.Writer, c.Request) })
	engine.GET("/first", func(c *gin.Context) {
		session := ginsessions.Default(c)
		session.Set("user", userValue)
		answer(c.Writer, firstAnswer, session.Save())
	})
	engine.GET("/fill", func(c *gin.Context) {
		session := ginsessions.Default(c)
		for name, value := range fields(wideFields) {
			session.Set(name, value)
		}
		answer(c.Writer, firstAnswer, session.Save())
	})
	engine.GET("/wide", func(c *gin.Context) {
		session := ginsessions.Default(c)
		value, _ := session.Get(wideField).(string)
		next, err := nextWideNumber(value)
		if err == nil {
			session.Set(wideField, next)
			err = session.Save()
		}
		answer(c.Writer, value, err)
	})
	engine.GET("/page", func(c *gin.Context) {
		session := ginsessions.Default(c)
		body, _ := session.Get("user").(string)
		var err error
		if flashes := session.Flashes(); len(flashes) > 0 {
			body += fmt.Sprint(flashes...)
			err = session.Save()
		}
		answer(c.Writer, body, err)
	})
	return engine, nil
}
