// Exposes metrics of every kind, in every format that a scraper asks for: native histograms above all.
//
// What it says changes only when it is told so, by a POST to /step: two scrapers that look in between see the same.
package main

import (
	"flag"
	"fmt"
	"log"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type exposer struct {
	mutex    sync.Mutex
	step     int
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	native   *prometheus.HistogramVec
	both     prometheus.Histogram
	fine     prometheus.Histogram
	sizes    prometheus.Summary
	depth    prometheus.Gauge
}

func newExposer(registry *prometheus.Registry) *exposer {
	e := &exposer{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x_requests_total", Help: "A counter.\nWith \\ two lines."}, []string{"code"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "x_classic_seconds", Help: "Classic.", Buckets: []float64{0.005, 1, 2.5, 10, 1e6}}, []string{"path"}),
		native:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "x_native_seconds", Help: "Native.", NativeHistogramBucketFactor: 1.1}, []string{"path"}),
		both:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x_both", Help: "Classic and native.", Buckets: []float64{-1, 0, 1}, NativeHistogramBucketFactor: 2, NativeHistogramZeroThreshold: 0.25}),
		fine:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x_fine", Help: "As fine as there is.", NativeHistogramBucketFactor: 1.0001}),
		sizes:    prometheus.NewSummary(prometheus.SummaryOpts{Name: "x_sizes", Help: "A summary.", Objectives: map[float64]float64{0.5: 0.01, 0.999: 0.001}, MaxAge: 24 * time.Hour}),
		depth:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "x_depth", Help: "A gauge."}),
	}
	registry.MustRegister(e.requests, e.seconds, e.native, e.both, e.fine, e.sizes, e.depth)
	// One without observations.
	e.native.WithLabelValues("/idle")
	e.seconds.WithLabelValues("/idle")
	return e
}

// advance observes what belongs to the next step.
func (e *exposer) advance() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.step++
	trace := func(i int) prometheus.Labels { return prometheus.Labels{"trace_id": fmt.Sprintf("%d-%d", e.step, i)} }
	for i := 0; i < 50*e.step; i++ {
		value := math.Exp(float64(i%37)/4 - 5)
		e.requests.WithLabelValues([]string{"200", "5\"0\\0"}[i%2]).(prometheus.ExemplarAdder).AddWithExemplar(1, trace(i))
		e.seconds.WithLabelValues("/ü").Observe(value)
		e.native.WithLabelValues("/a").(prometheus.ExemplarObserver).ObserveWithExemplar(value, trace(i))
		e.both.Observe(float64(i%9) - 4)
		e.fine.Observe(1 + float64(i%7)/1000)
		e.sizes.Observe(float64(i))
	}
	e.both.Observe(math.Inf(1))
	if e.step > 1 {
		e.native.WithLabelValues("/nan").Observe(math.NaN())
	}
	e.depth.Set(0.1 * float64(e.step))
}

// Gather gives what the client library has no metrics for.
func (e *exposer) Gather() ([]*dto.MetricFamily, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	step := float64(e.step)
	span := func(offset int32, length uint32) *dto.BucketSpan {
		return &dto.BucketSpan{Offset: proto.Int32(offset), Length: proto.Uint32(length)}
	}
	floats := &dto.Histogram{
		SampleCountFloat: proto.Float64(6.75 * step), SampleSum: proto.Float64(-12.5 * step), Schema: proto.Int32(2),
		ZeroThreshold: proto.Float64(0.5), ZeroCountFloat: proto.Float64(0.25 * step),
		PositiveSpan: []*dto.BucketSpan{span(-8, 2), span(3, 1)}, PositiveCount: []float64{0.5 * step, 1 * step, 2 * step},
		NegativeSpan: []*dto.BucketSpan{span(0, 1)}, NegativeCount: []float64{3 * step},
	}
	gauge := &dto.Histogram{
		SampleCount: proto.Uint64(3), SampleSum: proto.Float64(7 - step), Schema: proto.Int32(0), ZeroThreshold: proto.Float64(1e-9),
		PositiveSpan: []*dto.BucketSpan{span(int32(e.step), 2)}, PositiveDelta: []int64{1, 1},
	}
	classicGauge := &dto.Histogram{
		SampleCount: proto.Uint64(3), SampleSum: proto.Float64(step),
		Bucket: []*dto.Bucket{{UpperBound: proto.Float64(1), CumulativeCount: proto.Uint64(2), Exemplar: &dto.Exemplar{
			Value: proto.Float64(0.5), Timestamp: timestamppb.New(time.Unix(1700000000, 123e6)),
			Label: []*dto.LabelPair{{Name: proto.String("trace_id"), Value: proto.String("g")}}}}},
	}
	histograms := func(name string, kind dto.MetricType, one *dto.Histogram) *dto.MetricFamily {
		return &dto.MetricFamily{Name: proto.String(name), Help: proto.String("Of another kind."), Type: kind.Enum(), Metric: []*dto.Metric{{Histogram: one}}}
	}
	return []*dto.MetricFamily{
		histograms("y_float", dto.MetricType_HISTOGRAM, floats),
		histograms("y_gauge", dto.MetricType_GAUGE_HISTOGRAM, gauge),
		histograms("y_gauge_classic", dto.MetricType_GAUGE_HISTOGRAM, classicGauge),
		{Name: proto.String("y_untyped"), Type: dto.MetricType_UNTYPED.Enum(), Metric: []*dto.Metric{{Untyped: &dto.Untyped{Value: proto.Float64(math.Inf(-1))}}}},
	}, nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to serve /metrics, /text and /step")
	flag.Parse()
	registry := prometheus.NewRegistry()
	e := newExposer(registry)
	e.advance()
	options := promhttp.HandlerOpts{EnableOpenMetrics: true}
	http.Handle("/metrics", promhttp.HandlerFor(prometheus.Gatherers{registry, e}, options))
	// The library's text formats have no gauge histograms.
	http.Handle("/text", promhttp.HandlerFor(registry, options))
	http.HandleFunc("POST /step", func(http.ResponseWriter, *http.Request) { e.advance() })
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}
