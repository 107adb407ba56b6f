package prometheus_test

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/prometheus"
)

// day is a date of the tests.
func day(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }

// answering is a server of the documented HTTP API that answers each query by
// what is in it.
func answering(t *testing.T, answers map[string]string) (s *prometheus.Server, asked *[]string) {
	t.Helper()
	asked = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if r.Method != http.MethodPost || r.URL.Path != "/prefix/api/v1/query" || user != "me" || password != "secret" {
			http.Error(w, "there is nothing", http.StatusNotFound)
			return
		}
		*asked = append(*asked, r.PostFormValue("time")+" "+r.PostFormValue("query"))
		w.Header().Set("Content-Type", "application/json")
		for part, result := range answers {
			if strings.Contains(r.PostFormValue("query"), part) {
				fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, result)
				return
			}
		}
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	}))
	t.Cleanup(server.Close)
	s, err := prometheus.New(strings.Replace(server.URL, "://", "://me:secret@", 1) + "/prefix/")
	if err != nil {
		t.Fatal(err)
	}
	return s, asked
}

func TestUsage(t *testing.T) {
	const title = `{"metric":{"namespace":"shop","service":"title"},"value":[1762041600,"%s"]}`
	const photo = `{"metric":{"namespace":"aisle-system","exported_namespace":"shop","service":"metrics","exported_service":"photo"},"value":[1762041600.5,"%s"]}`
	s, asked := answering(t, map[string]string{
		"increase(aisle_pod_seconds_total": fmt.Sprintf(title+","+photo, "120.5", "3600"),
		"increase(aisle_gpu_seconds_total": fmt.Sprintf(title+","+photo, "0", "7200"),
		"count_over_time":                  fmt.Sprintf(title+","+photo, "1441", "30"),
		"max_over_time":                    fmt.Sprintf(title+","+photo, "1.02", "2.5"),
	})
	now := day(2).Add(6 * time.Hour)
	got, err := s.Usage(t.Context(), day(1), day(5), now)
	if err != nil {
		t.Fatal(err)
	}
	row := func(date string, declared float64) client.UsageRow {
		return client.UsageRow{Date: date, Namespace: "shop", Service: "title", PodSeconds: 120.5, DeclaredSeconds: declared, Peak: 1}
	}
	gpu := client.UsageRow{Date: "2026-11-01", Namespace: "shop", Service: "photo", PodSeconds: 3600, GPUSeconds: 7200, DeclaredSeconds: 1800, DeclaredGPUSeconds: 3600, Peak: 3}
	today := gpu
	today.Date = "2026-11-02"
	want := client.Usage{Rows: []client.UsageRow{gpu, row("2026-11-01", 86400), today, row("2026-11-02", 21600)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// A whole day at its end, today up to now, and no day that is to come.
	if len(*asked) != 8 || !strings.HasPrefix((*asked)[0], "1793577600.000 ") || !strings.Contains((*asked)[0], "[86400s]") ||
		!strings.HasPrefix((*asked)[4], "1793599200.000 ") || !strings.Contains((*asked)[4], "[21600s]") {
		t.Errorf("asked:\n%s", strings.Join(*asked, "\n"))
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct{ result, want string }{
		"another metric": {`{"metric":{"namespace":"shop"},"value":[1,"2"]}`, "no label service"},
		"no number":      {`{"metric":{"service":"title"},"value":[1,"many"]}`, "many"},
		"less than none": {`{"metric":{"service":"title"},"value":[1,"-2"]}`, "less than 0"},
		"endless":        {`{"metric":{"service":"title"},"value":[1,"+Inf"]}`, "+Inf"},
		"no sample":      {`7`, "samples"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := answering(t, map[string]string{"increase": test.result})
			if _, err := s.Usage(t.Context(), day(1), day(1), day(3)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %q in it", err, test.want)
			}
		})
	}
	for name, test := range map[string]struct{ answer, want string }{
		"its error":      {`{"status":"error","errorType":"bad_data","error":"query processing would load too many samples"}`, "too many samples"},
		"something else": {`<html>Grafana</html>`, "no answer of Prometheus"},
		"another result": {`{"status":"success","data":{"resultType":"matrix","result":[]}}`, "matrix"},
		"nothing":        {``, "no answer of Prometheus"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, test.answer) }))
			defer server.Close()
			s, err := prometheus.New(strings.Replace(server.URL, "://", "://me:secret@", 1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Usage(t.Context(), day(1), day(1), day(3)); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v; want %q in it, and no password", err, test.want)
			}
		})
	}
	for _, address := range []string{"", "localhost:9090", "ftp://localhost", "http://"} {
		if _, err := prometheus.New(address); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}

// A Prometheus of its own makes, of samples that are known, what they amount to:
// where there is one on the PATH (Debian's package prometheus has it).
func TestPrometheusItself(t *testing.T) {
	for _, program := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s here (Debian's package prometheus): its answers are made up in the other tests", program)
		}
	}
	dir := t.TempDir()
	// Two days of scrapes every 30 s. A controller begins anew at noon of the
	// second.
	span := func(d int, from, to string) [2]time.Time {
		at := func(s string) time.Time {
			c, err := time.Parse("15:04", s)
			if err != nil {
				t.Fatal(err)
			}
			return day(d).Add(time.Duration(c.Hour())*time.Hour + time.Duration(c.Minute())*time.Minute)
		}
		return [2]time.Time{at(from), at(to)}
	}
	pods := [][2]time.Time{span(1, "08:00", "09:30"), span(1, "10:00", "10:20"), span(1, "10:00", "10:20"), span(1, "23:30", "23:59"), span(2, "00:00", "00:15"), span(2, "11:00", "13:00")}
	anew := day(2).Add(12 * time.Hour)
	var text bytes.Buffer
	for _, metric := range []struct {
		name string
		gpus float64
	}{{"aisle_pod_seconds", 1}, {"aisle_gpu_seconds", 2}} {
		fmt.Fprintf(&text, "# HELP %s x\n# TYPE %s counter\n", metric.name, metric.name)
		for at := day(1); at.Before(day(3)); at = at.Add(30 * time.Second) {
			begun := day(1)
			if !at.Before(anew) {
				begun = anew
			}
			sum := 0.0
			for _, p := range pods {
				from, to := p[0], p[1]
				if from.Before(begun) {
					from = begun
				}
				if at.Before(to) {
					to = at
				}
				sum += max(0, to.Sub(from).Seconds())
			}
			fmt.Fprintf(&text, "%s_total{namespace=\"shop\",service=\"photo\",pod=\"aisle-controller\"} %v %d\n", metric.name, sum*metric.gpus, at.Unix())
		}
	}
	text.WriteString("# EOF\n")
	input := filepath.Join(dir, "samples")
	if err := os.WriteFile(input, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if out, err := exec.CommandContext(t.Context(), "promtool", "tsdb", "create-blocks-from", "openmetrics", input, data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	var said bytes.Buffer
	server := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=10y", "--web.listen-address="+address)
	server.Stderr = &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait() // killed
		if t.Failed() {
			t.Log(said.String())
		}
	})
	s, err := prometheus.New("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	patience := time.After(time.Minute)
	for ready := false; !ready; {
		select {
		case <-look.C:
			if resp, err := http.Get("http://" + address + "/-/ready"); err == nil {
				ready = resp.StatusCode == http.StatusOK
				_ = resp.Body.Close()
			}
		case <-patience:
			t.Fatal("it is not ready")
		}
	}
	got, err := s.Usage(t.Context(), day(1), day(3), day(4))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		date string
		pods float64
		peak int
	}{{"2026-11-01", 5400 + 2400 + 29*60, 2}, {"2026-11-02", 900 + 7200, 1}}
	if len(got.Rows) < len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		r := got.Rows[i]
		t.Logf("%+v", r)
		// To a scrape's interval at the day's ends, and one where the controller
		// began anew.
		if r.Date != w.date || math.Abs(r.PodSeconds-w.pods) > 61 || math.Abs(r.GPUSeconds-2*w.pods) > 122 || r.Peak != w.peak ||
			math.Abs(r.DeclaredSeconds-86400) > 120 || math.Abs(r.DeclaredGPUSeconds-2*r.DeclaredSeconds) > 2000 {
			t.Errorf("%+v; want %+v", r, w)
		}
	}
	for _, r := range got.Rows[len(want):] { // the last sample is looked back at for five minutes
		if r.PodSeconds != 0 || r.DeclaredSeconds > 301 {
			t.Errorf("of a day without samples: %+v", r)
		}
	}
}
