package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/wait"
)

// metrics are what GET /metrics shows.
type metrics struct {
	registry      *prometheus.Registry
	notifications *prometheus.CounterVec
	assignment    prometheus.Histogram
	requests      *prometheus.HistogramVec
	logLines      *prometheus.CounterVec
}

func newMetrics(st *store.Store, hub *wait.Hub) *metrics {
	reg := prometheus.NewRegistry()
	auto := promauto.With(reg)
	m := &metrics{
		registry: reg,
		notifications: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "lablink_notifications_total", Help: "Notifications received from PostgreSQL, by channel.",
		}, []string{"channel"}),
		assignment: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "lablink_assignment_seconds", Help: "From a participant's request until its code is written to the VM.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300},
		}),
		requests: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lablink_http_request_seconds", Help: "HTTP requests by route, method and status; polls and event streams for as long as they are held.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 600},
		}, []string{"route", "method", "code"}),
	}
	m.logLines = auto.NewCounterVec(prometheus.CounterOpts{
		Name: "lablink_log_lines_total", Help: "Lines of VMs' logs by what became of them: stored, duplicate, aside (kept for a VM that is not known), " +
			"refused (no such VM, and no room), dropped (more than logs.max_lines), expired (nobody came for them), purged (logs.retention).",
	}, []string{"outcome"})
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lablink_waiting_vms", Help: "VMs that wait in a held poll of this process.",
	}, func() float64 { return float64(hub.Len()) })
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&databaseCollector{st})
	return m
}

func (m *metrics) delivered(sinceRequest time.Duration) { m.assignment.Observe(sinceRequest.Seconds()) }

func (m *metrics) logged(outcome string, lines int) {
	m.logLines.WithLabelValues(outcome).Add(float64(lines))
}

func (m *metrics) observe(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "unknown"
	}
	m.requests.WithLabelValues(route, knownMethod(method), strconv.Itoa(status)).Observe(took.Seconds())
}

// knownMethod keeps whatever a stranger sends from becoming a label.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// databaseCollector reads the fleet's numbers and the pool's when it is asked.
type databaseCollector struct{ store *store.Store }

var (
	descSeats = prometheus.NewDesc("lablink_seats", "VMs by state of their seat.", []string{"state"}, nil)
	descVMs   = prometheus.NewDesc("lablink_vms", "VMs of the whole fleet: total, free, waiting at any replica, silent, in trouble.", []string{"kind"}, nil)
	descPool  = prometheus.NewDesc("lablink_database_connections", "Connections of this process's pool by state.", []string{"state"}, nil)
	descWait  = prometheus.NewDesc("lablink_database_acquire_wait_seconds_total", "Time spent waiting for a connection of the pool.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *databaseCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descSeats
	ch <- descVMs
	ch <- descPool
	ch <- descWait
}

// Collect implements prometheus.Collector.
func (c *databaseCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), label)
	}
	pool := c.store.Stat()
	gauge(descPool, int(pool.AcquiredConns()), "in use")
	gauge(descPool, int(pool.IdleConns()), "idle")
	gauge(descPool, int(pool.MaxConns()), "limit")
	ch <- prometheus.MustNewConstMetric(descWait, prometheus.CounterValue, pool.EmptyAcquireWaitTime().Seconds())

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	counts, err := c.store.Counts(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(descVMs, err)
		return
	}
	for _, s := range fleet.SeatStates {
		gauge(descSeats, counts.Seats[s], string(s))
	}
	for kind, n := range map[string]int{"total": counts.Total, "free": counts.Free, "waiting": counts.Waiting,
		"silent": counts.Silent, "trouble": counts.Trouble} {
		gauge(descVMs, n, kind)
	}
}
