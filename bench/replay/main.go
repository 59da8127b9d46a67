// Command replay serves recorded scrapes as many targets, each an address of its own.
//
// A target at 127.0.A.B shows recording NAME under /NAME, as a client that asks for gzip or one that does not gets it.
// It starts at its own place in the recording and goes on with the clock: all who scrape it within the same second see
// the same body, however often they ask. At a recording's end it begins again, as an exporter that restarts.
// With -openmetrics bodies are said to be OpenMetrics; they must be that.
//
// Bodies are compressed before the first request is answered, so that serving costs next to nothing beside a scrape.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Targets that lie side by side start this far apart, so that no two show the same.
const stride = 37 * time.Second

// A scrape is one body as it was recorded.
type scrape struct {
	at    time.Duration // since the recording's first
	plain []byte
	gzip  []byte
}

// A recording is its scrapes in order, never empty, and how long it lasts. Immutable once compressed.
type recording struct {
	scrapes []scrape
	length  time.Duration
}

// read takes a file of <f64 unix seconds><u32 length><body>, little-endian, apart.
func read(file string) (*recording, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	const header = 12
	var first float64
	recorded := &recording{}
	for rest := content; len(rest) > 0; {
		if len(rest) < header {
			return nil, fmt.Errorf("cannot read %s: it ends within a header, at byte %d", file, len(content)-len(rest))
		}
		seconds := math.Float64frombits(binary.LittleEndian.Uint64(rest))
		length := int(binary.LittleEndian.Uint32(rest[8:]))
		rest = rest[header:]
		if len(rest) < length {
			return nil, fmt.Errorf("cannot read %s: it ends within a body, at byte %d", file, len(content)-len(rest))
		}
		if len(recorded.scrapes) == 0 {
			first = seconds
		}
		at := time.Duration((seconds - first) * float64(time.Second))
		recorded.scrapes = append(recorded.scrapes, scrape{at: at, plain: rest[:length]})
		rest = rest[length:]
	}
	count := len(recorded.scrapes)
	if count == 0 {
		return nil, fmt.Errorf("cannot replay %s: it is empty", file)
	}
	// The last scrape shows for as long as the others do.
	recorded.length = time.Second
	if count > 1 {
		last := recorded.scrapes[count-1].at
		recorded.length = last + last/time.Duration(count-1)
	}
	return recorded, nil
}

// compress fills in the compressed form of all bodies, on all processors.
func (r *recording) compress() {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(r.scrapes)); i = next.Add(1) - 1 {
				var out bytes.Buffer
				writer := gzip.NewWriter(&out)
				// A buffer takes everything.
				_, _ = writer.Write(r.scrapes[i].plain)
				_ = writer.Close()
				r.scrapes[i].gzip = out.Bytes()
			}
		})
	}
	workers.Wait()
}

// at is what shows so long after the recording's start.
func (r *recording) at(elapsed time.Duration) *scrape {
	elapsed %= r.length
	low, high := 0, len(r.scrapes)
	for high-low > 1 {
		if middle := (low + high) / 2; r.scrapes[middle].at <= elapsed {
			low = middle
		} else {
			high = middle
		}
	}
	return &r.scrapes[low]
}

// targets answers for all addresses.
type targets struct {
	recordings  map[string]*recording
	began       time.Time
	contentType string
}

func (t *targets) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	recorded := t.recordings[strings.TrimPrefix(request.URL.Path, "/")]
	if recorded == nil {
		http.NotFound(answer, request)
		return
	}
	address := request.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr).IP.To4()
	place := time.Duration(binary.BigEndian.Uint16(address[2:])) * stride
	shown := recorded.at(time.Since(t.began) + place)
	body := shown.plain
	header := answer.Header()
	if strings.Contains(request.Header.Get("Accept-Encoding"), "gzip") {
		body = shown.gzip
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Type", t.contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	// A client that has left misses nothing.
	_, _ = answer.Write(body)
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("replay: ")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: replay [flags] NAME.rec…\n\nServes each recording under /NAME at every address.\n")
		flag.PrintDefaults()
	}
	count := flag.Int("targets", 100, "how many addresses to serve, from 127.0.1.1 on, 250 to each 127.0.A")
	port := flag.Int("port", 19200, "the port at every address")
	openMetrics := flag.Bool("openmetrics", false, "say that bodies are OpenMetrics 1.0")
	flag.Parse()

	served := &targets{recordings: map[string]*recording{}, contentType: "text/plain; version=0.0.4; charset=utf-8"}
	if *openMetrics {
		served.contentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	}
	for _, file := range flag.Args() {
		recorded, err := read(file)
		if err != nil {
			log.Fatal(err)
		}
		recorded.compress()
		served.recordings[strings.TrimSuffix(filepath.Base(file), ".rec")] = recorded
	}
	if len(served.recordings) == 0 {
		log.Fatal("cannot replay nothing: name the files of some recordings")
	}

	server := &http.Server{Handler: served, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, *count)
	served.began = time.Now()
	for i := range *count {
		listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.%d.%d:%d", 1+i/250, 1+i%250, *port))
		if err != nil {
			log.Fatal(err)
		}
		go func() { failed <- server.Serve(listener) }()
	}
	fmt.Println("ready")

	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	select {
	case err := <-failed:
		log.Fatal(err)
	case <-stop.Done():
	}
}
