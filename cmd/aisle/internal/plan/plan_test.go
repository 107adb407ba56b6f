package plan_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/cmd/aisle/internal/plan"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/scaling"
)

// service compiles schedules, by name in order, of one service.
func service(t *testing.T, s plan.Service, specs ...string) plan.Service {
	t.Helper()
	for i, text := range specs {
		var spec scaling.Spec
		if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
			t.Fatal(err)
		}
		spec.Service = s.Name
		c, err := schedule.Compile([]string{"office", "sale", "night", "import"}[i], &spec)
		if err != nil {
			t.Fatal(err)
		}
		s.Schedules = append(s.Schedules, c)
	}
	return s
}

func prague(t *testing.T) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// autumn is a week in which the clock is set back, with all that a picture
// shows.
func autumn(t *testing.T) plan.Plan {
	from := time.Date(2026, 10, 19, 0, 0, 0, 0, prague(t))
	lead := scaling.Lead{Source: "learned", Sample: 23}
	lead.Time.Duration = 45 * time.Minute
	title := service(t, plan.Service{Name: "title", There: true, Base: schedule.Base{Max: 6}, Lead: lead, GPUs: 1},
		`{timeZone: Europe/Prague, readyBy: true, windows: [{name: working hours, days: [Mon-Fri], start: "08:00", end: "18:00", floor: 2}, {days: [Sat-Sun], start: "10:00", end: "16:00", floor: 1}]}`,
		`{timeZone: Europe/Prague, windows: [{from: "2026-10-22", until: "2026-10-22", start: "09:00", end: "22:00", floor: 5}, {name: keep GPUs for training, from: "2026-10-22", until: "2026-10-22", start: "14:00", end: "16:00", cap: 3}]}`,
		`{timeZone: Europe/Prague, windows: [{days: [Mon-Fri], start: "22:00", end: "06:00", closed: true}]}`)
	photo := service(t, plan.Service{Name: "photo", Namespace: "shop", There: true},
		`{timeZone: America/New_York, windows: [{cron: {start: "0 22 * * *", end: "0 4 * * *"}, floor: 3, cap: 8}]}`)
	return plan.Make([]plan.Service{title, photo}, from, from.AddDate(0, 0, 7))
}

func look(t *testing.T, name string, out []byte) {
	t.Helper()
	if dir := os.Getenv("LOOK"); dir != "" { // to be looked at
		if err := os.WriteFile(filepath.Join(dir, name), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDraw(t *testing.T) {
	p := autumn(t)
	out, err := p.Draw(false)
	if err != nil {
		t.Fatal(err)
	}
	look(t, "plan.png", out)
	if _, err := png.Decode(bytes.NewReader(out)); err != nil {
		t.Error(err)
	}
	if out, err = p.Draw(true); err != nil {
		t.Fatal(err)
	}
	look(t, "plan.svg", out)
	var text []string
	for dec := xml.NewDecoder(bytes.NewReader(out)); ; {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v", err)
		}
		if c, ok := tok.(xml.CharData); ok {
			text = append(text, string(c))
		}
	}
	all := strings.Join(text, "\n")
	for _, want := range []string{"title", "shop/photo", "closed", "clock -1 h", "office: working hours", "Sun 25 Oct", "learned from 23 starts", "≤ 6"} {
		if !strings.Contains(all, want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	long := plan.Make([]plan.Service{service(t, plan.Service{Name: "title"}, `{windows: [{days: [Mon-Fri], floor: 1}]}`)}, from, from.AddDate(0, 6, 0))
	if out, err = long.Draw(false); err != nil {
		t.Fatal(err)
	}
	look(t, "long.png", out)
}

func TestChart(t *testing.T) {
	var b bytes.Buffer
	autumn(t).Chart(screen.Screen{Writer: &b, Width: 120})
	look(t, "chart.txt", b.Bytes())
	t.Log("\n" + b.String())
	for _, want := range []string{
		"Thu 22 Oct ╳╳╳╳╳╳╳╳╳╳╳╳··▒▒▄▄██████████▅▅▅▅████████████╳╳╳╳  floor 0–5, cap 3–6",
		"Sun 25 Oct ··················▒▒▂▂",
		"floor 0–1, cap 6, clock -1 h at 02:00",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the chart does not have %q", want)
		}
	}
}
