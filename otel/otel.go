// Package pycketotel reports to OpenTelemetry what pycket asks Redis: metrics, and a span for each operation, by the
// semantic conventions for database clients.
//
//	telemetry, err := pycketotel.New(pycketotel.Options{})
//	…
//	app, err := pycket.New(pycket.Settings{Secrets: secrets, Observe: telemetry.Observe})
//	…
//	registration, err := telemetry.Register(app)
//
// docs/observability.md lists the metrics, and docs/grafana has a dashboard and alerts for them. No session's id, cookie,
// user, key or value is in any of it.
package pycketotel

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/pycket/pycket"
)

const scope = "github.com/pycket/pycket/otel"

// Options say where to report. The zero value reports to the global providers.
type Options struct {
	// MeterProvider gets the metrics. nil means otel.GetMeterProvider().
	MeterProvider metric.MeterProvider

	// TracerProvider gets the spans. nil means otel.GetTracerProvider().
	TracerProvider trace.TracerProvider

	// Pool tells the connections of several Apps in one program apart: it is the metrics' db.client.connection.pool.name.
	// "" means "pycket".
	Pool string
}

// A Telemetry reports what one App does.
type Telemetry struct {
	meter    metric.Meter
	tracer   trace.Tracer
	pool     attribute.KeyValue
	duration metric.Float64Histogram
	known    sync.Map // kind → *reported
}

// A kind is what operations have in common that are reported alike.
type kind struct{ name, outcome, server string }

// reported is how they are.
type reported struct {
	span       string
	attributes []attribute.KeyValue
	options    []metric.RecordOption
}

// New returns a Telemetry. Its Observe method is for [pycket.Settings].
func New(o Options) (*Telemetry, error) {
	meters, tracers := o.MeterProvider, o.TracerProvider
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	t := &Telemetry{
		meter:  meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)),
		tracer: tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		pool:   semconv.DBClientConnectionPoolName(cmp.Or(o.Pool, "pycket")),
	}
	// The conventions' own bounds begin at 1 ms, which most operations on Redis stay below.
	duration, err := dbconv.NewClientOperationDuration(t.meter, metric.WithExplicitBucketBoundaries(
		0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10))
	t.duration = duration.Inst()
	return t, err
}

// Observe reports an operation that asked Redis, or failed to: how long it took and, if the span in ctx is sampled, a
// span that is its child. It does nothing for others, such as a read of what the request has read already.
func (t *Telemetry) Observe(ctx context.Context, op pycket.Operation) {
	if op.RoundTrips == 0 && op.Outcome != "unavailable" && op.Outcome != "misconfigured" {
		return
	}
	r := t.reported(kind{op.Name, op.Outcome, op.Server})
	t.duration.Record(ctx, op.Took.Seconds(), r.options...)
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	_, span := t.tracer.Start(ctx, r.span, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(op.Began), trace.WithAttributes(r.attributes...))
	span.SetAttributes(attribute.Int("pycket.round_trips", op.RoundTrips))
	if op.Retries > 0 {
		span.SetAttributes(attribute.Int("pycket.retries", op.Retries))
	}
	if op.Err != nil {
		span.SetStatus(codes.Error, op.Outcome)
	}
	span.End(trace.WithTimestamp(op.Began.Add(op.Took)))
}

// reported returns how operations of a kind are reported. There are few kinds.
func (t *Telemetry) reported(k kind) *reported {
	if r, ok := t.known.Load(k); ok {
		return r.(*reported)
	}
	r := &reported{span: k.name, attributes: []attribute.KeyValue{semconv.DBSystemNameRedis, semconv.DBOperationName(k.name)}}
	if k.server != "" {
		r.span += " " + k.server
		r.attributes = append(r.attributes, address(k.server)...)
	}
	if k.outcome != "ok" {
		r.attributes = append(r.attributes, semconv.ErrorTypeKey.String(k.outcome))
	}
	r.options = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(r.attributes...))}
	t.known.Store(k, r)
	return r
}

// address returns the attributes of a server's address, host:port or the path of a socket.
func address(server string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(server)}
	}
	list := []attribute.KeyValue{semconv.ServerAddress(host)}
	if n, err := strconv.Atoi(port); err == nil {
		list = append(list, semconv.ServerPort(n))
	}
	return list
}

// Register reports the figures of [pycket.App.Stats] whenever metrics are collected: all operations, faults,
// connections, renewals, conflicts and reads from memory. Call Unregister of what it returns before the App is closed.
func (t *Telemetry) Register(app *pycket.App) (metric.Registration, error) {
	var r registry
	pooled := func(more ...attribute.KeyValue) metric.ObserveOption {
		return metric.WithAttributeSet(attribute.NewSet(append(more, t.pool)...))
	}
	count, err := dbconv.NewClientConnectionCountObservable(t.meter)
	r.add(count.Inst(), err)
	most, err := dbconv.NewClientConnectionMaxObservable(t.meter)
	r.add(most.Inst(), err)
	pending, err := dbconv.NewClientConnectionPendingRequestsObservable(t.meter)
	r.add(pending.Inst(), err)
	counter := func(name, unit, text string) metric.Int64ObservableCounter {
		c, err := t.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		r.add(c, err)
		return c
	}
	operations := counter("pycket.operations", "{operation}", "Operations, those that asked Redis nothing included.")
	faults := counter("pycket.faults", "{operation}", "Operations that have failed because of Redis, its set-up or what it holds.")
	trips := counter("pycket.round_trips", "{round_trip}", "How often Redis was asked.")
	retries := counter("pycket.retries", "{round_trip}", "How many of the round trips repeated a command.")
	renewals := counter("pycket.renewals", "{renewal}", "Reads that renewed the idle timeout.")
	conflicts := counter("pycket.conflicts", "{conflict}", "Updates that began again, since the value had changed meanwhile.")
	reads := counter("pycket.cache.reads", "{read}", "Reads that looked into this process's memory.")
	invalidations := counter("pycket.cache.invalidations", "{key}", "Keys that Redis has said were changed.")
	size, err := t.meter.Int64ObservableUpDownCounter("pycket.cache.size", metric.WithUnit("By"), metric.WithDescription("Memory that sessions take in this process."))
	r.add(size, err)
	unanswered, err := t.meter.Int64ObservableUpDownCounter("pycket.commands.unanswered", metric.WithUnit("{command}"),
		metric.WithDescription("Commands on shared connections that have no reply yet."))
	r.add(unanswered, err)
	if r.err != nil {
		return nil, r.err
	}
	used := pooled(semconv.DBClientConnectionStateUsed)
	idle := pooled(semconv.DBClientConnectionStateIdle)
	own := pooled()
	hit := pooled(attribute.String("pycket.cache.result", "hit"))
	miss := pooled(attribute.String("pycket.cache.result", "miss"))
	return t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := app.Stats()
		o.ObserveInt64(count.Inst(), int64(s.Connections.Shared+s.Connections.Alone), used)
		o.ObserveInt64(count.Inst(), int64(s.Connections.Idle), idle)
		o.ObserveInt64(most.Inst(), int64(s.Connections.Max), own)
		o.ObserveInt64(pending.Inst(), int64(s.Connections.Queued), own)
		o.ObserveInt64(unanswered, int64(s.Connections.Waiting), own)
		faulty := map[string]uint64{"unavailable": 0, "misconfigured": 0, "not_replicated": 0, "corrupt": 0}
		for name, of := range s.Operations {
			for outcome, n := range of.Outcomes {
				if _, ok := faulty[outcome]; ok {
					faulty[outcome] += n
				}
				o.ObserveInt64(operations, whole(n), pooled(semconv.DBOperationName(name), attribute.String("pycket.outcome", outcome)))
			}
		}
		for outcome, n := range faulty { // with 0 too: a series that begins at 1 has no rate, and the first fault raises no alert
			o.ObserveInt64(faults, whole(n), pooled(attribute.String("pycket.outcome", outcome)))
		}
		o.ObserveInt64(trips, whole(s.RoundTrips), own)
		o.ObserveInt64(retries, whole(s.Retries), own)
		o.ObserveInt64(renewals, whole(s.Renewals), own)
		o.ObserveInt64(conflicts, whole(s.Conflicts), own)
		o.ObserveInt64(reads, whole(s.Cache.Hits), hit)
		o.ObserveInt64(reads, whole(s.Cache.Misses), miss)
		o.ObserveInt64(invalidations, whole(s.Cache.Invalidations), own)
		o.ObserveInt64(size, whole(s.Cache.Bytes), own)
		return nil
	}, r.all...)
}

// whole returns a count as OpenTelemetry has it.
func whole(n uint64) int64 { return int64(n) } // #nosec G115 -- a count

// A registry collects what a callback observes.
type registry struct {
	all []metric.Observable
	err error
}

func (r *registry) add(o metric.Observable, err error) {
	r.all, r.err = append(r.all, o), cmp.Or(r.err, err)
}
