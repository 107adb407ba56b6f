package cost_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"aisle.dev/aisle/cmd/aisle/internal/cost"
	"aisle.dev/aisle/internal/client"
)

const prices = `
currency: EUR
podHour: 0.1
gpuHour: {l4: 1, t4: 0.5}
gpu: l4
services:
  shop/photo: {gpu: t4, podHour: 0.2}
`

func parsed(t testing.TB, text string) *cost.Prices {
	t.Helper()
	p, err := cost.ParsePrices([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestShippedPrices(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/prices.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed(t, string(text))
}

func TestPricesRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"nothing":         {"", "currency"},
		"misspelt":        {prices + "podHours: 1\n", "podHours"},
		"twice":           {prices + "podHour: 1\n", "podHour"},
		"negative":        {strings.Replace(prices, "podHour: 0.1", "podHour: -0.1", 1), "podHour: -0.1 is not a price"},
		"endless":         {strings.Replace(prices, "podHour: 0.1", "podHour: .inf", 1), "+Inf"},
		"no number":       {strings.Replace(prices, "podHour: 0.1", "podHour: cheap", 1), "podHour"},
		"unknown kind":    {strings.Replace(prices, "gpu: l4\n", "gpu: a100\n", 1), `gpu: gpuHour has no kind "a100"; it has l4, t4`},
		"of a service":    {strings.Replace(prices, "gpu: t4", "gpu: a100", 1), "services.shop/photo.gpu"},
		"no namespace":    {strings.Replace(prices, "shop/photo", "photo", 1), "NAMESPACE/NAME"},
		"no YAML":         {"[", "yaml"},
		"too large":       {prices + strings.Repeat("#", cost.MaxPrices), "more than"},
		"a GPU's price":   {strings.Replace(prices, "t4: 0.5", "t4: 1e9", 1), "gpuHour.t4"},
		"two at a time":   {strings.NewReplacer("currency: EUR", "currency: ''", "podHour: 0.1", "podHour: -1").Replace(prices), "podHour: -1"},
		"a pod of theirs": {strings.Replace(prices, "podHour: 0.2", "podHour: -2", 1), "services.shop/photo.podHour"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cost.ParsePrices([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want %q in it", err, test.want)
			}
		})
	}
}

func FuzzPrices(f *testing.F) {
	f.Add([]byte(prices))
	f.Add([]byte("currency: EUR\npodHour: .nan\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := cost.ParsePrices(text)
		if err != nil {
			return
		}
		r := cost.Of(client.Usage{Rows: rows}, p, "2026-11-22", "2026-11-23")
		if c := r.Total.Used.Cost; !(c >= 0) || math.IsInf(c, 0) {
			t.Errorf("it cost %v", c)
		}
	})
}

// An hour of photo's pod on its GPU of two days, of which it was there for a
// whole one and a half.
var rows = []client.UsageRow{
	{Date: "2026-11-22", Namespace: "shop", Service: "photo", PodSeconds: 3600, GPUSeconds: 3600, DeclaredSeconds: 43200, DeclaredGPUSeconds: 43200, Peak: 1},
	{Date: "2026-11-22", Namespace: "shop", Service: "title", PodSeconds: 7200, DeclaredSeconds: 43200, Peak: 4, FloorSeconds: 3600, PeakFloor: 1},
	{Date: "2026-11-23", Namespace: "shop", Service: "photo", PodSeconds: 3600, GPUSeconds: 3600, DeclaredSeconds: 86400, DeclaredGPUSeconds: 86400, Peak: 2},
}

func TestOf(t *testing.T) {
	r := cost.Of(client.Usage{Rows: rows, Damaged: []string{"2026-11-21"}}, parsed(t, prices), "2026-11-20", "2026-11-23")
	want := cost.Line{
		Used:   cost.Amount{PodSeconds: 14400, GPUSeconds: 7200, Cost: 2*(0.2+0.5) + 2*0.1},
		One:    cost.Amount{PodSeconds: 172800, GPUSeconds: 129600, Cost: 36*(0.2+0.5) + 12*0.1},
		Most:   cost.Amount{PodSeconds: 43200 + 4*43200 + 2*86400, GPUSeconds: 43200 + 2*86400, Cost: 60*(0.2+0.5) + 48*0.1},
		Peak:   4,
		Floors: cost.Amount{PodSeconds: 3600, Cost: 0.1}, AllDay: cost.Amount{PodSeconds: 43200, Cost: 1.2},
		Saved: new(1 - 1.6/26.4), SavedAtPeak: new(1 - 1.6/46.8),
	}
	near := cmpopts.EquateApprox(0, 1e-9)
	if diff := cmp.Diff(want, r.Total, near); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(r.Days) != 3 || len(r.Services) != 2 || r.Services[0].Service != "photo" || r.Services[0].Used.GPUSeconds != 7200 || len(r.Damaged) != 1 || len(r.Unpriced) != 0 {
		t.Errorf("%+v", r)
	}
	// Without prices: by GPUs where there are any.
	r = cost.Of(client.Usage{Rows: rows}, nil, "2026-11-22", "2026-11-23")
	if unit, of := r.Unit(); unit != "GPU-hours" || of(r.Total.Used) != 2 || *r.Total.Saved != 1-7200.0/129600 || *r.Services[1].Saved != 1-7200.0/43200 {
		t.Errorf("%s, %+v", unit, r.Total)
	}
	if got := cost.Of(client.Usage{Rows: rows}, parsed(t, "currency: EUR\npodHour: 1\n"), "2026-11-22", "2026-11-23").Unpriced; len(got) != 1 || got[0] != "shop/photo" {
		t.Errorf("without a price are %q", got)
	}
	if empty := cost.Of(client.Usage{}, nil, "2026-11-22", "2026-11-23"); empty.Total.Saved != nil || empty.Days == nil {
		t.Errorf("%+v", empty)
	}
}

// Days, services and the total are the same sum, and what was used is not more
// than what is always on at peak, where it did not run longer than that.
func TestAddsUp(t *testing.T) {
	p := parsed(t, prices)
	rapid.Check(t, func(t *rapid.T) {
		u := client.Usage{Rows: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) client.UsageRow {
			r := client.UsageRow{
				Date:      fmt.Sprintf("2026-11-%02d", rapid.IntRange(1, 30).Draw(t, "day")),
				Namespace: "shop", Service: rapid.SampledFrom([]string{"photo", "title"}).Draw(t, "service"),
				DeclaredSeconds: rapid.Float64Range(0, 86400).Draw(t, "declared"),
				Peak:            rapid.IntRange(0, 9).Draw(t, "peak"),
			}
			gpus := float64(rapid.IntRange(0, 2).Draw(t, "gpus"))
			r.PodSeconds = rapid.Float64Range(0, 1).Draw(t, "part") * r.DeclaredSeconds * float64(max(1, r.Peak))
			r.GPUSeconds, r.DeclaredGPUSeconds = gpus*r.PodSeconds, gpus*r.DeclaredSeconds
			return r
		}), 0, 60).Draw(t, "rows")}
		u.Sort()
		r := cost.Of(u, p, "2026-11-01", "2026-11-30")
		sum := func(lines []cost.Line) (a [3]float64) {
			for _, l := range lines {
				for i, v := range []cost.Amount{l.Used, l.One, l.Most} {
					a[i] += v.Cost
				}
				if l.SavedAtPeak != nil && (*l.SavedAtPeak < -1e-9 || *l.SavedAtPeak > 1) {
					t.Fatalf("%+v", l)
				}
			}
			return a
		}
		near := cmpopts.EquateApprox(1e-9, 1e-9)
		total := sum([]cost.Line{r.Total})
		if diff := cmp.Diff(total, sum(r.Days), near); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(total, sum(r.Services), near); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestPlot(t *testing.T) {
	u := client.Usage{}
	for i := range 14 {
		date := time.Date(2026, 11, 10+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
		for j := range 8 {
			pods := 1800 * float64(1+(i*j)%7)
			u.Rows = append(u.Rows, client.UsageRow{Date: date, Namespace: "shop", Service: fmt.Sprintf("service-%d", j), PodSeconds: pods, GPUSeconds: pods, DeclaredSeconds: 86400, DeclaredGPUSeconds: 86400, Peak: 1 + (i+j)%3})
		}
	}
	for name, r := range map[string]cost.Report{
		"many":  cost.Of(u, parsed(t, prices), "2026-11-10", "2026-11-23"),
		"few":   cost.Of(client.Usage{Rows: rows}, nil, "2026-11-22", "2026-11-23"),
		"empty": cost.Of(client.Usage{}, nil, "2026-01-01", "2026-12-31"),
	} {
		t.Run(name, func(t *testing.T) {
			picture, err := r.Plot(false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := png.Decode(bytes.NewReader(picture)); err != nil {
				t.Error(err)
			}
			if dir := os.Getenv("LOOK"); dir != "" { // to be looked at
				if err := os.WriteFile(dir+"/cost-"+name+".png", picture, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if picture, err = r.Plot(true); err != nil {
				t.Fatal(err)
			}
			for dec := xml.NewDecoder(bytes.NewReader(picture)); ; {
				if _, err := dec.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("no XML: %v", err)
				}
			}
			if bytes.Contains(picture, []byte("NaN")) || bytes.Contains(picture, []byte("Inf")) {
				t.Error("it has no place for something")
			}
		})
	}
}
