package pycketotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pycket/pycket"
	"github.com/pycket/pycket/embedded"
	pycketotel "github.com/pycket/pycket/otel"
)

// A site is an App that reports.
type site struct {
	t         *testing.T
	redis     *embedded.Server
	app       *pycket.App
	telemetry *pycketotel.Telemetry
	cookie    *http.Cookie
}

func newSite(t *testing.T, options pycketotel.Options) *site {
	t.Helper()
	redis, err := embedded.Start("127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { redis.Close() })
	telemetry, err := pycketotel.New(options)
	must(t, err)
	app, err := pycket.New(pycket.Settings{
		Secrets: []string{"32 random bytes: openssl rand -base64 32"},
		Redis:   pycket.RedisSettings{URL: redis.URL(), Timeout: 5 * time.Second},
		Logger:  slog.New(slog.DiscardHandler),
		Observe: telemetry.Observe,
	})
	must(t, err)
	t.Cleanup(func() { app.Close() })
	return &site{t: t, redis: redis, app: app, telemetry: telemetry}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// visit is one request of a browser that keeps its cookie.
func (s *site) visit(ctx context.Context, use func(s *pycket.SessionManager)) {
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	if s.cookie != nil {
		r.AddCookie(s.cookie)
	}
	w := httptest.NewRecorder()
	s.app.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { use(pycket.NewSessionManager(w, r)) })).ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		s.cookie = c
	}
}

// What the tests store, and must not find anywhere.
const user, key, value = "ann@example.org", "the name of a key", "a value that is stored"

// tour is some of everything: what succeeds, what needs no round trip, what fails.
func (s *site) tour(ctx context.Context) {
	s.t.Helper()
	s.cookie = nil
	s.visit(ctx, func(m *pycket.SessionManager) {
		must(s.t, m.Set(key, value))
		must(s.t, m.Login(user, pycket.Values{"count": 1}))
	})
	s.visit(ctx, func(m *pycket.SessionManager) {
		got, err := pycket.Get(m, key, "")
		if must(s.t, err); got != value {
			s.t.Errorf("%q", got)
		}
		pycket.Get(m, key, "")
		if _, err := m.Increment(key, 1); err == nil {
			s.t.Error("a text was incremented")
		}
	})
	_, err := s.app.RevokeUser(ctx, user)
	must(s.t, err)
	s.visit(ctx, func(m *pycket.SessionManager) {
		if err := m.Set(key, value); err == nil {
			s.t.Error("a revoked session was written to")
		}
	})
}

func collect(t *testing.T, reader metric.Reader) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &all))
	found := map[string]metricdata.Metrics{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			found[m.Name] = m
		}
	}
	return found
}

// The metrics are those of the conventions, with their units and attributes, and agree with Stats.
func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	s := newSite(t, pycketotel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	registration, err := s.telemetry.Register(s.app)
	must(t, err)
	s.tour(t.Context())
	found := collect(t, reader)

	duration := found["db.client.operation.duration"]
	if duration.Unit != "s" {
		t.Errorf("the unit is %q", duration.Unit)
	}
	counts := map[string]uint64{}
	host, port, _ := strings.Cut(strings.TrimPrefix(s.redis.URL(), "redis://"), ":")
	for _, point := range duration.Data.(metricdata.Histogram[float64]).DataPoints {
		text := func(key attribute.Key) string { v, _ := point.Attributes.Value(key); return v.String() }
		if text("db.system.name") != "redis" || text("server.address") != host || text("server.port") != port {
			t.Errorf("attributes: %v", point.Attributes)
		}
		if point.Sum <= 0 || point.Sum > 60 || point.Bounds[0] > 0.001 {
			t.Errorf("%v", point)
		}
		counts[text("db.operation.name")+" "+text("error.type")] += point.Count
	}
	want := map[string]uint64{"set ": 1, "login ": 1, "get ": 1, "increment failed": 1, "revoke user ": 1, "set gone": 1}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("operations: %v, want %v", counts, want)
	}

	sums := map[string]int64{}
	for name, m := range found {
		if data, ok := m.Data.(metricdata.Sum[int64]); ok {
			for _, point := range data.DataPoints {
				if pool, _ := point.Attributes.Value("db.client.connection.pool.name"); pool.AsString() != "pycket" {
					t.Errorf("%s: %v", name, point.Attributes)
				}
				state, _ := point.Attributes.Value("db.client.connection.state")
				sums[strings.TrimSpace(name+" "+state.String())] += point.Value
			}
		}
	}
	stats := s.app.Stats()
	for name, want := range map[string]int64{
		"db.client.connection.count used": 1, "db.client.connection.max": 64, "db.client.connection.pending_requests": 0, "pycket.operations": 7,
		"pycket.round_trips": int64(stats.RoundTrips), "pycket.retries": int64(stats.Retries), "pycket.commands.unanswered": 0,
	} {
		if got, ok := sums[name]; !ok || got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	wantSilence(t, s, found)
	must(t, registration.Unregister())
	if _, ok := collect(t, reader)["pycket.operations"]; ok {
		t.Error("it is reported after Unregister")
	}
}

// Faults are reported before there are any: a rate needs the 0 to see the first.
func TestFaultsBeginAtZero(t *testing.T) {
	reader := metric.NewManualReader()
	s := newSite(t, pycketotel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	_, err := s.telemetry.Register(s.app)
	must(t, err)
	want := func(unavailable int64) {
		t.Helper()
		got := map[string]int64{}
		data, _ := collect(t, reader)["pycket.faults"].Data.(metricdata.Sum[int64])
		for _, point := range data.DataPoints {
			outcome, _ := point.Attributes.Value("pycket.outcome")
			got[outcome.AsString()] = point.Value
		}
		if want := map[string]int64{"unavailable": unavailable, "misconfigured": 0, "not_replicated": 0, "corrupt": 0}; !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	want(0)
	s.redis.Close()
	if _, err := s.app.Sessions(t.Context(), user); !errors.Is(err, pycket.ErrUnavailable) {
		t.Error(err)
	}
	want(1)
}

// wantSilence wants nothing secret to be in what was reported.
func wantSilence(t *testing.T, s *site, reported any) {
	t.Helper()
	text := fmt.Sprintf("%+v", reported)
	for _, secret := range []string{user, key, value, s.cookie.Value, s.cookie.Value[:16]} {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("%q is in it: %s", secret, text)
		}
	}
}

// Spans are children of the request's, of the conventions' form, and last as long as the operation.
func TestSpans(t *testing.T) {
	exported := tracetest.NewInMemoryExporter()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exported))
	s := newSite(t, pycketotel.Options{TracerProvider: tracers})
	before := time.Now()
	ctx, request := tracers.Tracer("test").Start(t.Context(), "GET /")
	s.tour(ctx)
	server := strings.TrimPrefix(s.redis.URL(), "redis://")
	var names []string
	spans := exported.GetSpans()
	for _, span := range spans {
		names = append(names, strings.TrimSuffix(span.Name, " "+server)+" "+span.Status.Description)
		if span.Parent.SpanID() != request.SpanContext().SpanID() || span.SpanKind != trace.SpanKindClient {
			t.Errorf("%s: the parent is %v, its kind %v", span.Name, span.Parent, span.SpanKind)
		}
		if span.StartTime.Before(before) || !span.EndTime.After(span.StartTime) || span.EndTime.After(time.Now()) {
			t.Errorf("%s: from %v to %v", span.Name, span.StartTime, span.EndTime)
		}
		set := attribute.NewSet(span.Attributes...)
		for key, want := range map[attribute.Key]string{"db.system.name": "redis", "db.operation.name": strings.TrimSuffix(span.Name, " "+server), "error.type": span.Status.Description} {
			if got, _ := set.Value(key); got.String() != want && got.AsString() != want {
				t.Errorf("%s: %s is %v", span.Name, key, got)
			}
		}
		if (span.Status.Code == codes.Error) != (span.Status.Description != "") || len(span.Events) > 0 {
			t.Errorf("%s: %v", span.Name, span.Status)
		}
		if trips, ok := set.Value("pycket.round_trips"); !ok || trips.AsInt64() < 1 {
			t.Errorf("%s: %v round trips", span.Name, trips)
		}
	}
	if want := []string{"set ", "login ", "get ", "increment failed", "revoke user ", "set gone"}; !slices.Equal(names, want) {
		t.Errorf("spans: %q, want %q", names, want)
	}
	wantSilence(t, s, spans)
}

// Without a sampled span there is none, and reporting takes no memory.
func TestUnsampledCostsNothing(t *testing.T) {
	exported := tracetest.NewInMemoryExporter()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exported), sdktrace.WithSampler(sdktrace.NeverSample()))
	s := newSite(t, pycketotel.Options{TracerProvider: tracers})
	ctx, _ := tracers.Tracer("test").Start(t.Context(), "GET /")
	s.tour(ctx)
	s.tour(t.Context())
	if spans := exported.GetSpans(); len(spans) > 0 {
		t.Errorf("%v", spans)
	}
	op := pycket.Operation{Name: "get", Outcome: "ok", Began: time.Now(), Took: time.Millisecond, RoundTrips: 1, Server: "localhost:6379"}
	if n := testing.AllocsPerRun(100, func() { s.telemetry.Observe(ctx, op) }); n > 1 { // the key's interface
		t.Errorf("%v allocations", n)
	}
}

// A socket has no port, and an operation that found no server has no address.
func TestAddresses(t *testing.T) {
	reader := metric.NewManualReader()
	telemetry, err := pycketotel.New(pycketotel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	must(t, err)
	for server, want := range map[string]string{
		"/run/redis.sock": "server.address=/run/redis.sock",
		"[::1]:6379":      "server.address=::1,server.port=6379",
		"":                "error.type=unavailable",
	} {
		op := pycket.Operation{Name: "get", Outcome: "ok", RoundTrips: 1, Server: server}
		if server == "" {
			op.Outcome, op.RoundTrips = "unavailable", 0
		}
		telemetry.Observe(t.Context(), op)
		var found []string
		for _, point := range collect(t, reader)["db.client.operation.duration"].Data.(metricdata.Histogram[float64]).DataPoints {
			found = append(found, point.Attributes.Encoded(attribute.DefaultEncoder()))
		}
		if !strings.Contains(strings.Join(found, "\n"), want) {
			t.Errorf("%q: %q", server, found)
		}
	}
}

// Every metric that the dashboard and the alerts name is one that Prometheus gets, and so is every label. Those with
// names of the conventions, which other clients report too, are told apart by their scope.
func TestDashboardAndAlerts(t *testing.T) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry))
	must(t, err)
	s := newSite(t, pycketotel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	_, err = s.telemetry.Register(s.app)
	must(t, err)
	s.tour(t.Context())
	families, err := registry.Gather()
	must(t, err)
	labels := map[string]map[string]bool{} // of each name
	scope := ""
	for _, family := range families {
		of := map[string]bool{"le": true, "job": true, "instance": true}
		for _, m := range family.Metric {
			for _, pair := range m.Label {
				of[pair.GetName()] = true
				if pair.GetName() == "otel_scope_name" {
					scope = pair.GetValue()
				}
			}
		}
		labels[family.GetName()] = of
		if family.Metric[0].Histogram != nil {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				labels[family.GetName()+part] = of
			}
		}
	}
	name := regexp.MustCompile(`\b(?:db_client|pycket)_\w+`)
	selector := regexp.MustCompile(`\b((?:db_client|pycket)_\w+)\{([^}]*)\}`)
	matcher := regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	scoped := regexp.MustCompile(`\bdb_client_\w+\{otel_scope_name=~"([^"]*)"`)
	used := map[string]bool{}
	for _, expression := range slices.Concat(dashboard(t), alerts(t)) {
		all := map[string]bool{}
		for _, found := range name.FindAllString(expression, -1) {
			if strings.HasPrefix(found, "pycket_outcome") || strings.HasPrefix(found, "pycket_cache_result") || found == "db_client_connection_state" || found == "db_client_connection_pool_name" {
				continue // labels
			}
			if all[found] = true; labels[found] == nil {
				t.Errorf("there is no metric %s: %s", found, expression)
			}
			used[found] = true
		}
		if len(all) == 0 {
			t.Errorf("no metric is in %q", expression)
		}
		shared := slices.DeleteFunc(name.FindAllString(expression, -1), func(n string) bool { return !strings.HasPrefix(n, "db_client_") || labels[n] == nil })
		scopes := scoped.FindAllStringSubmatch(expression, -1)
		if len(scopes) != len(shared) {
			t.Errorf("%v of several clients have the scopes %q: %s", shared, scopes, expression)
		}
		for _, found := range scopes {
			of := regexp.MustCompile("^(?:" + found[1] + ")$")
			if !of.MatchString(scope) || !of.MatchString("") || of.MatchString("github.com/redis/go-redis/extra/redisotel/v9") {
				t.Errorf("the scope is %s, or not reported, and asked for is %s", scope, of)
			}
		}
		for _, found := range selector.FindAllStringSubmatch(expression, -1) {
			for _, label := range matcher.FindAllStringSubmatch(found[2], -1) {
				if !labels[found[1]][label[1]] {
					t.Errorf("%s has no label %s: %s", found[1], label[1], expression)
				}
			}
		}
		for _, by := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(expression, -1) {
			for label := range strings.SplitSeq(by[1], ",") {
				for metric := range all {
					if label = strings.TrimSpace(label); !labels[metric][label] {
						t.Errorf("%s has no label %s: %s", metric, label, expression)
					}
				}
			}
		}
	}
	if len(used) < 10 {
		t.Errorf("only %v are used", used)
	}
	rows := documented(t)
	for _, family := range families {
		n := family.GetName()
		if n == "target_info" {
			continue
		}
		of := labels[n]
		for _, other := range []string{"le", "job", "instance", "otel_scope_name", "otel_scope_schema_url", "otel_scope_version"} {
			delete(of, other)
		}
		if got := slices.Sorted(maps.Keys(of)); !slices.Equal(got, rows[n]) {
			t.Errorf("%s has the labels %v, and docs/observability.md says %v", n, got, rows[n])
		}
		delete(rows, n)
	}
	if len(rows) > 0 {
		t.Errorf("docs/observability.md has metrics that are not reported: %v", rows)
	}
}

// documented returns the labels of each metric that docs/observability.md lists, in order.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../docs/observability.md")
	must(t, err)
	code := regexp.MustCompile("`(\\w+)`(: [^|,]*)?") // a label's values may follow
	rows := map[string][]string{}
	for i, row := range regexp.MustCompile("(?m)^\\| `((?:db_client|pycket)_\\w+)` \\|([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		var list []string
		for _, label := range code.FindAllStringSubmatch(row[2], -1) {
			list = append(list, label[1])
		}
		if i > 0 {
			list = append(list, "db_client_connection_pool_name") // which the page says below
		}
		slices.Sort(list)
		rows[row[1]] = list
	}
	return rows
}

// dashboard returns the expressions of the dashboard.
func dashboard(t *testing.T) (list []string) {
	t.Helper()
	data, err := os.ReadFile("../docs/grafana/pycket.json")
	must(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(data, &board))
	for _, panel := range board.Panels {
		if panel.Title == "" || len(panel.Targets) == 0 {
			t.Errorf("a panel shows nothing: %+v", panel)
		}
		for _, target := range panel.Targets {
			list = append(list, target.Expr)
		}
	}
	return list
}

// alerts returns the expressions of the alerts.
func alerts(t *testing.T) (list []string) {
	t.Helper()
	data, err := os.ReadFile("../docs/grafana/alerts.yaml")
	must(t, err)
	for _, found := range regexp.MustCompile(`(?m)^ +expr: (.*)$`).FindAllStringSubmatch(string(data), -1) {
		list = append(list, found[1])
	}
	for _, window := range regexp.MustCompile(`\[(\d+)m\]`).FindAllStringSubmatch(string(data), -1) {
		if minutes, _ := strconv.Atoi(window[1]); minutes < 5 {
			t.Errorf("%s may have one sample, which has no rate", window[0])
		}
	}
	if rules := strings.Count(string(data), "- alert:"); len(list) != rules || rules < 4 {
		t.Errorf("%d alerts with %d expressions", rules, len(list))
	}
	return list
}
