// Command tsdb appends rows to Prometheus's storage as its server would, and says what that took.
//
// It is the peer of bench/storage_ours.py: same input, same order, same timestamps, same lines of JSON on standard
// output. `load` appends, compacts, queries, and waits to be killed. `log` only appends, so that all is in the log, and
// waits to be killed; `reopen` opens what is left and asks for all last values. `write` leaves a folder for a server, with
// all in its log or all in blocks.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
)

const (
	interval   = 15 * 1000
	block      = 2 * 3600 * 1000
	tidyEvery  = 60 * 1000 / interval // the server's loop: each minute
	stride     = 37                   // rows between the phases of targets that lie side by side
	secondsRow = interval / 1000
)

// The server does this each minute of its clock; time is compressed here, so it is done each minute of samples.
//
//go:linkname mmapHeadChunks github.com/prometheus/prometheus/tsdb.(*Head).mmapHeadChunks
func mmapHeadChunks(head *tsdb.Head)

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

// A target is what scrape.go caches of one.
type target struct {
	recording *recording
	phase     int
	offset    int64
	labels    []labels.Labels
	refs      []storage.SeriesRef
	present   []bool
}

func newTarget(i, count int, recordings []*recording) *target {
	r := recordings[i%len(recordings)]
	t := &target{
		recording: r,
		phase:     i / len(recordings) * stride,
		offset:    int64(i) * interval / int64(count),
		labels:    make([]labels.Labels, len(r.Columns)),
		refs:      make([]storage.SeriesRef, len(r.Columns)),
		present:   make([]bool, len(r.Columns)),
	}
	builder := labels.NewBuilder(labels.EmptyLabels())
	for at, column := range r.Columns {
		builder.Reset(labels.FromMap(column))
		builder.Set("instance", fmt.Sprintf("target-%05d:9100", i))
		t.labels[at] = builder.Labels()
	}
	return t
}

// scrape appends one row and commits it.
func (t *target) scrape(ctx context.Context, db *tsdb.DB, at int64, row []float64) (int, error) {
	app := db.AppenderV2(ctx)
	count := 0
	for i, v := range row {
		present := math.Float64bits(v) != value.StaleNaN
		if !present && !t.present[i] {
			continue
		}
		// A series that has gone ends in one stale marker.
		t.present[i] = present
		ref, err := app.Append(t.refs[i], t.labels[i], 0, at, v, nil, nil, storage.AOptions{RejectOutOfOrder: true})
		if err != nil {
			return 0, errors.Join(err, app.Rollback())
		}
		t.refs[i] = ref
		count++
	}
	return count, app.Commit()
}

// As cmd/prometheus/main.go sets them by default.
func open(folder string, keep time.Duration) (*tsdb.DB, error) {
	debug.SetGCPercent(75)
	options := tsdb.DefaultOptions()
	options.RetentionDuration = keep.Milliseconds()
	options.WALCompression = compression.Snappy
	options.HeadChunksWriteQueueSize = 0
	options.MaxBlockDuration = options.RetentionDuration / 10
	options.FloatChunkEncoding = chunkenc.EncXOR
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := tsdb.Open(folder, quiet, nil, options, nil)
	if err != nil {
		return nil, err
	}
	// Its own loop goes by the clock; here it is called by the time of the samples.
	db.DisableCompactions()
	return db, nil
}

type answer struct {
	Samples  int    `json:"samples"`
	Checksum string `json:"checksum"`
	Seconds  []float64
}

// ask selects and decodes all samples of a matcher.
func ask(ctx context.Context, db *tsdb.DB, matcher *labels.Matcher, start, end int64) (found answer, err error) {
	q, err := db.Querier(start, end)
	if err != nil {
		return found, err
	}
	defer q.Close()
	var sum uint64
	var iterator chunkenc.Iterator
	set := q.Select(ctx, false, nil, matcher)
	for set.Next() {
		iterator = set.At().Iterator(iterator)
		for iterator.Next() == chunkenc.ValFloat {
			t, v := iterator.At()
			sum += uint64(t) ^ math.Float64bits(v)
			found.Samples++
		}
		if err := iterator.Err(); err != nil {
			return found, err
		}
	}
	found.Checksum = strconv.FormatUint(sum, 16)
	return found, set.Err()
}

func askOften(ctx context.Context, db *tsdb.DB, metric string, start, end int64, repeats int) (answer, error) {
	var found answer
	var seconds []float64
	for range repeats {
		began := time.Now()
		one, err := ask(ctx, db, labels.MustNewMatcher(labels.MatchEqual, "__name__", metric), start, end)
		if err != nil {
			return one, err
		}
		seconds = append(seconds, time.Since(began).Seconds())
		found = one
	}
	found.Seconds = seconds
	return found, nil
}

func (a answer) report(phase string, more map[string]any) {
	line := map[string]any{"samples": a.Samples, "checksum": a.Checksum}
	if len(a.Seconds) > 0 {
		line["first_seconds"] = a.Seconds[0]
		slices.Sort(a.Seconds)
		line["seconds"] = a.Seconds[len(a.Seconds)/2]
	}
	for name, one := range more {
		line[name] = one
	}
	say(phase, line)
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

func walBytes(folder string) (total int64, err error) {
	err = filepath.WalkDir(filepath.Join(folder, "wal"), func(_ string, entry fs.DirEntry, err error) error {
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
	retention                time.Duration
	blocks                   bool
}

// begin gives memory before it, the empty storage, and its targets.
func begin(a arguments) (atStart int, db *tsdb.DB, targets []*target, err error) {
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
	atStart = memory()["VmRSS"]
	if db, err = open(a.data, a.retention); err != nil {
		return 0, nil, nil, err
	}
	targets = make([]*target, a.targets)
	for i := range targets {
		targets[i] = newTarget(i, a.targets, recordings)
	}
	return atStart, db, targets, nil
}

// The k-th scrape of every target; returns how many samples it had.
func scrapeAll(ctx context.Context, db *tsdb.DB, a arguments, targets []*target, k int) (int, error) {
	samples := 0
	for _, t := range targets {
		count, err := t.scrape(ctx, db, a.start+int64(k)*interval+t.offset, t.recording.row(t.phase+k*secondsRow))
		if err != nil {
			return 0, err
		}
		samples += count
	}
	return samples, nil
}

func logOnly(ctx context.Context, a arguments) error {
	_, db, targets, err := begin(a)
	if err != nil {
		return err
	}
	samples := 0
	for k := range a.scrapes {
		count, err := scrapeAll(ctx, db, a, targets, k)
		if err != nil {
			return err
		}
		samples += count
	}
	say("logged", map[string]any{"samples": samples})
	select {}
}

func load(ctx context.Context, a arguments) error {
	atStart, db, targets, err := begin(a)
	if err != nil {
		return err
	}
	headAt := (block + block/6) / interval // no block is there yet
	var samples, walSamples, blockSamples int
	var wal int64
	var asking, compacting float64
	began, beganProcessor := time.Now(), processor()
	for k := range a.scrapes {
		if k == headAt {
			before := processor()
			end := a.start + int64(k)*interval - 1
			found, err := askOften(ctx, db, a.metric, end-block+1, end, a.repeat)
			if err != nil {
				return err
			}
			found.report("select_head", nil)
			asking = processor() - before
		}
		for _, t := range targets {
			at := a.start + int64(k)*interval + t.offset
			count, err := t.scrape(ctx, db, at, t.recording.row(t.phase+k*secondsRow))
			if err != nil {
				return err
			}
			samples += count
			if at < a.start+block {
				blockSamples += count
			}
		}
		if k%tidyEvery == 0 {
			// The log is looked at before a compaction first cuts it.
			if wal == 0 && db.Head().MaxTime()-db.Head().MinTime() > block/2*3 {
				if wal, err = walBytes(a.data); err != nil {
					return err
				}
				walSamples = samples
			}
			before := processor()
			mmapHeadChunks(db.Head())
			if err := db.Compact(ctx); err != nil {
				return err
			}
			compacting += processor() - before
		}
	}
	line := map[string]any{
		"samples": samples, "processor_seconds": processor() - beganProcessor - asking,
		"compacting_seconds": compacting, "seconds": time.Since(began).Seconds(),
		"wal_bytes": wal, "wal_samples": walSamples, "start_bytes": atStart,
		"series": db.Head().NumSeries(),
	}
	used := memory()
	line["peak_bytes"], line["anonymous_bytes"], line["mapped_bytes"] = used["VmHWM"], used["RssAnon"], used["RssFile"]
	var size int64
	var inBlocks uint64
	for _, b := range db.Blocks() {
		size += b.Size()
		inBlocks += b.Meta().Stats.NumSamples
	}
	if inBlocks != uint64(blockSamples) {
		return fmt.Errorf("blocks have %d samples, and %d were appended before their end", inBlocks, blockSamples)
	}
	line["block_bytes"], line["block_samples"] = size, inBlocks
	say("loaded", line)
	found, err := askOften(ctx, db, a.metric, a.start, a.start+block-1, a.repeat)
	if err != nil {
		return err
	}
	found.report("select_blocks", nil)
	select {}
}

func reopen(ctx context.Context, a arguments) error {
	began, beganProcessor := time.Now(), processor()
	db, err := open(a.data, a.retention)
	if err != nil {
		return err
	}
	start := a.start + int64(a.scrapes-1)*interval
	all := labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")
	found, err := ask(ctx, db, all, start, start+interval-1)
	if err != nil {
		return err
	}
	found.report("reopened", map[string]any{
		"seconds": time.Since(began).Seconds(), "processor_seconds": processor() - beganProcessor,
		"peak_bytes": memory()["VmHWM"],
	})
	return nil
}

func write(ctx context.Context, a arguments) error {
	_, db, targets, err := begin(a)
	if err != nil {
		return err
	}
	samples := 0
	for k := range a.scrapes {
		count, err := scrapeAll(ctx, db, a, targets, k)
		if err != nil {
			return err
		}
		samples += count
		if k%tidyEvery == 0 {
			mmapHeadChunks(db.Head())
			if a.blocks {
				if err := db.Compact(ctx); err != nil {
					return err
				}
			}
		}
	}
	if a.blocks {
		head := db.Head()
		for from, last := head.MinTime()/block*block, head.MaxTime(); from <= last; from += block {
			if err := db.CompactHead(tsdb.NewRangeHeadWithIsolationDisabled(head, from, from+block-1)); err != nil {
				return err
			}
		}
		if err := db.Compact(ctx); err != nil {
			return err
		}
	}
	say("written", map[string]any{"samples": samples, "blocks": len(db.Blocks())})
	return db.Close()
}

func main() {
	log.SetFlags(0)
	var a arguments
	flags := flag.NewFlagSet("tsdb", flag.ExitOnError)
	flags.StringVar(&a.data, "data", "", "the storage's folder")
	flags.StringVar(&a.input, "input", "", "the rows, as bench/storage_input.py writes them")
	flags.StringVar(&a.metric, "metric", "", "the metric to select")
	flags.IntVar(&a.targets, "targets", 0, "how many")
	flags.IntVar(&a.scrapes, "scrapes", 0, "of each target")
	flags.IntVar(&a.repeat, "repeat", 1, "how often to select")
	flags.Int64Var(&a.start, "start", 0, "the time of the first row, in milliseconds")
	flags.DurationVar(&a.retention, "retention", 15*24*time.Hour, "how long samples are kept")
	flags.BoolVar(&a.blocks, "blocks", false, "write: all goes into blocks, and nothing stays in the log")
	actions := map[string]func(context.Context, arguments) error{
		"load": load, "log": logOnly, "reopen": reopen, "write": write,
	}
	if len(os.Args) < 2 || actions[os.Args[1]] == nil {
		log.Fatal("usage: tsdb load|log|reopen|write --data … --input … (python -m bench.storage runs it)")
	}
	_ = flags.Parse(os.Args[2:])
	if err := actions[os.Args[1]](context.Background(), a); err != nil {
		log.Fatalf("cannot %s: %s", os.Args[1], err)
	}
}
