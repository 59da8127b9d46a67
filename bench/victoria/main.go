// Command victoria appends rows to VictoriaMetrics' storage as its server would, and says what that took.
//
// It is a peer of bench/storage_ours.py and bench/tsdb: same input, same order, same timestamps, same lines of JSON on
// standard output. What its storage does in the background it does by the clock, as in its server. It has no log: what
// is in memory goes to files within five seconds, and `log` waits for that. Values lose bits beyond the fifteenth digit
// and NaNs are left out, so what it finds is counted and not summed.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

const (
	interval   = 15 * 1000
	block      = 2 * 3600 * 1000
	stride     = 37 // rows between the phases of targets that lie side by side
	secondsRow = interval / 1000
	stale      = 0x7ff0000000000002
	// Its own flush takes five seconds, and as long again for parts that came meanwhile.
	flushed = 12 * time.Second
	bits    = 64 // of each value: all
)

// A recording is rows of float64, one column a series; a stale marker is where a row has no sample.
type recording struct {
	Columns []map[string]string `json:"columns"`
	Rows    int                 `json:"rows"`
	Offset  int                 `json:"offset"`
	values  []float64
}

func (r *recording) row(i int) []float64 {
	width := len(r.Columns)
	return r.values[i%r.Rows*width:][:width]
}

// input maps the file: u64 length of a JSON header, the header, padding to eight bytes, rows.
func input(path string) ([]*recording, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	content, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	var recordings []*recording
	if err := json.Unmarshal(content[8:8+binary.LittleEndian.Uint64(content)], &recordings); err != nil {
		return nil, err
	}
	for _, r := range recordings {
		r.values = unsafe.Slice((*float64)(unsafe.Pointer(&content[r.Offset])), r.Rows*len(r.Columns))
	}
	return recordings, nil
}

// A target is what a scrape loop keeps of one.
type target struct {
	recording *recording
	phase     int
	offset    int64
	names     [][]byte
	present   []bool
	rows      []storage.MetricRow
}

func newTarget(i, count int, recordings []*recording) *target {
	r := recordings[i%len(recordings)]
	t := &target{
		recording: r,
		phase:     i / len(recordings) * stride,
		offset:    int64(i) * interval / int64(count),
		names:     make([][]byte, len(r.Columns)),
		present:   make([]bool, len(r.Columns)),
	}
	for at, column := range r.Columns {
		pairs := []prompb.Label{{Name: "instance", Value: fmt.Sprintf("target-%05d:9100", i)}}
		for name, value := range column {
			pairs = append(pairs, prompb.Label{Name: name, Value: value})
		}
		slices.SortFunc(pairs, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
		t.names[at] = storage.MarshalMetricNameRaw(nil, pairs)
	}
	return t
}

// scrape adds one row.
func (t *target) scrape(s *storage.Storage, at int64, row []float64) int {
	t.rows = t.rows[:0]
	for i, v := range row {
		present := math.Float64bits(v) != stale
		if !present && !t.present[i] {
			continue
		}
		// A series that has gone ends in one stale marker.
		t.present[i] = present
		t.rows = append(t.rows, storage.MetricRow{MetricNameRaw: t.names[i], Timestamp: at, Value: v})
	}
	s.AddRows(t.rows, bits)
	return len(t.rows)
}

func open(folder string) *storage.Storage {
	// The retention of the others' servers.
	return storage.MustOpenStorage(folder, storage.OpenOptions{Retention: 15 * 24 * time.Hour})
}

// ask selects and decodes all samples of a metric.
func ask(s *storage.Storage, metric string, isRegexp bool, start, end int64) (int, float64, error) {
	began := time.Now()
	filters := storage.NewTagFilters()
	if err := filters.Add(nil, []byte(metric), false, isRegexp); err != nil {
		return 0, 0, err
	}
	span := storage.TimeRange{MinTimestamp: start, MaxTimestamp: end}
	var search storage.Search
	search.Init(nil, s, []*storage.TagFilters{filters}, span, math.MaxInt32, math.MaxUint64)
	defer search.MustClose()
	var read storage.Block
	var times []int64
	var values []float64
	samples := 0
	for search.NextMetricBlock() {
		search.MetricBlockRef.BlockRef.MustReadBlock(&read)
		if err := read.UnmarshalData(); err != nil {
			return 0, 0, err
		}
		times, values = read.AppendRowsWithTimeRangeFilter(times[:0], values[:0], span)
		samples += len(values)
	}
	return samples, time.Since(began).Seconds(), search.Error()
}

func askOften(phase string, s *storage.Storage, a arguments, start, end int64) error {
	var seconds []float64
	samples := 0
	for range a.repeat {
		found, took, err := ask(s, a.metric, false, start, end)
		if err != nil {
			return err
		}
		samples, seconds = found, append(seconds, took)
	}
	first := seconds[0]
	slices.Sort(seconds)
	say(phase, map[string]any{"samples": samples, "first_seconds": first, "seconds": seconds[len(seconds)/2]})
	return nil
}

func say(phase string, line map[string]any) {
	line["phase"] = phase
	text, err := json.Marshal(line)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}

// processor is user and system time of all threads.
func processor() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// memory is what the kernel says, in bytes.
func memory() map[string]int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	found := map[string]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			kib, _ := strconv.Atoi(fields[1])
			found[strings.TrimSuffix(fields[0], ":")] = kib * 1024
		}
	}
	return found
}

// diskBytes is what its parts take, those of the index included; its caches are not among them.
func diskBytes(folder string) (total int64, err error) {
	err = filepath.WalkDir(filepath.Join(folder, "data"), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		total += info.Size()
		return err
	})
	return total, err
}

type arguments struct {
	data, input, metric      string
	targets, scrapes, repeat int
	start                    int64
}

// begin gives memory before it, the empty storage, and its targets.
func begin(a arguments) (int, *storage.Storage, []*target, error) {
	recordings, err := input(a.input)
	if err != nil {
		return 0, nil, nil, err
	}
	touched := 0.0
	for _, r := range recordings {
		for _, v := range r.values {
			touched += v
		}
	}
	_ = touched
	atStart := memory()["VmRSS"]
	s := open(a.data)
	targets := make([]*target, a.targets)
	for i := range targets {
		targets[i] = newTarget(i, a.targets, recordings)
	}
	return atStart, s, targets, nil
}

func logOnly(a arguments) error {
	_, s, targets, err := begin(a)
	if err != nil {
		return err
	}
	samples := 0
	for k := range a.scrapes {
		for _, t := range targets {
			samples += t.scrape(s, a.start+int64(k)*interval+t.offset, t.recording.row(t.phase+k*secondsRow))
		}
	}
	s.DebugFlush()
	time.Sleep(flushed)
	say("logged", map[string]any{"samples": samples})
	select {}
}

func load(a arguments) error {
	atStart, s, targets, err := begin(a)
	if err != nil {
		return err
	}
	headAt := (block + block/6) / interval
	samples := 0
	asking := 0.0
	began, beganProcessor := time.Now(), processor()
	for k := range a.scrapes {
		if k == headAt {
			before := processor()
			s.DebugFlush()
			end := a.start + int64(k)*interval - 1
			if err := askOften("select_head", s, a, end-block+1, end); err != nil {
				return err
			}
			asking = processor() - before
		}
		for _, t := range targets {
			samples += t.scrape(s, a.start+int64(k)*interval+t.offset, t.recording.row(t.phase+k*secondsRow))
		}
	}
	s.DebugFlush()
	seconds, used := time.Since(began).Seconds(), memory()
	// All parts as one, as they are in the end.
	if err := s.ForceMergePartitions(""); err != nil {
		return err
	}
	size, err := diskBytes(a.data)
	if err != nil {
		return err
	}
	say("loaded", map[string]any{
		"samples": samples, "processor_seconds": processor() - beganProcessor - asking, "seconds": seconds,
		"start_bytes": atStart, "peak_bytes": used["VmHWM"], "anonymous_bytes": used["RssAnon"],
		"mapped_bytes": used["RssFile"], "block_bytes": size, "block_samples": samples,
	})
	if err := askOften("select_blocks", s, a, a.start, a.start+block-1); err != nil {
		return err
	}
	select {}
}

func reopen(a arguments) error {
	began, beganProcessor := time.Now(), processor()
	s := open(a.data)
	start := a.start + int64(a.scrapes-1)*interval
	samples, _, err := ask(s, ".+", true, start, start+interval-1)
	if err != nil {
		return err
	}
	say("reopened", map[string]any{
		"samples": samples, "seconds": time.Since(began).Seconds(), "processor_seconds": processor() - beganProcessor,
		"peak_bytes": memory()["VmHWM"],
	})
	return nil
}

func main() {
	log.SetFlags(0)
	var a arguments
	// Its libraries have flags of their own, and wait for them to be read.
	flag.StringVar(&a.data, "data", "", "the storage's folder")
	flag.StringVar(&a.input, "input", "", "the rows, as bench/storage_input.py writes them")
	flag.StringVar(&a.metric, "metric", "", "the metric to select")
	flag.IntVar(&a.targets, "targets", 0, "how many")
	flag.IntVar(&a.scrapes, "scrapes", 0, "of each target")
	flag.IntVar(&a.repeat, "repeat", 1, "how often to select")
	flag.Int64Var(&a.start, "start", 0, "the time of the first row, in milliseconds")
	actions := map[string]func(arguments) error{"load": load, "log": logOnly, "reopen": reopen}
	if len(os.Args) < 2 || actions[os.Args[1]] == nil {
		log.Fatal("usage: victoria load|log|reopen --data … --input … (python -m bench.storage runs it)")
	}
	_ = flag.CommandLine.Parse(os.Args[2:])
	if err := actions[os.Args[1]](a); err != nil {
		log.Fatalf("cannot %s: %s", os.Args[1], err)
	}
}
