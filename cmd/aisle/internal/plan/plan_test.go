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

// TestChartSpring: where the clock leaves an hour out, the hours after it stay
// in their columns.
func TestChartSpring(t *testing.T) {
	from := time.Date(2026, 3, 29, 0, 0, 0, 0, prague(t))
	p := plan.Make([]plan.Service{service(t, plan.Service{Name: "title"}, `{timeZone: Europe/Prague, windows: [{start: "02:30", end: "04:00", floor: 1}]}`)}, from, from.AddDate(0, 0, 1))
	var b bytes.Buffer
	p.Chart(screen.Screen{Writer: &b, Width: 120})
	if want := "Sun 29 Mar ····  ██··············"; !strings.Contains(b.String(), want) {
		t.Errorf("the chart does not have %q:\n%s", want, b.String())
	}
	if got := p.Services[0].Hours; got.Floor != 1 || got.AlwaysOn != 23 || got.Largest != 1 || got.Cap != nil {
		t.Errorf("hours are %+v: the floor holds for one of 23", got)
	}
	if len(p.Clock) != 1 || p.Clock[0].Hours != 1 {
		t.Errorf("changes of the clock: %+v", p.Clock)
	}
}

func TestHours(t *testing.T) {
	from := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	lead := scaling.Lead{Source: "declared"}
	lead.Time.Duration = time.Hour
	s := service(t, plan.Service{Name: "title", GPUs: 2, Lead: lead, Base: schedule.Base{Max: 4}},
		`{readyBy: true, windows: [{start: "08:00", end: "18:00", floor: 3}]}`,
		`{windows: [{start: "20:00", end: "24:00", closed: true}]}`)
	p := plan.Make([]plan.Service{s}, from, from.AddDate(0, 0, 1)).Services[0]
	if p.Hours.Unit != "GPU-hours" || p.Hours.Floor != 2*3*11 || p.Hours.Early != 2*3*1 || p.Hours.AlwaysOn != 2*3*24 || p.Hours.Cap == nil || *p.Hours.Cap != 2*4*20 {
		t.Errorf("hours are %+v", p.Hours)
	}
}

func TestLint(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		service plan.Service
		specs   []string
		limits  plan.Limits
		want    []string // "schedule where: a part of the message"
	}{
		{name: "nothing", service: plan.Service{There: true}, specs: []string{`{windows: [{start: "08:00", end: "18:00", floor: 1, cap: 2}]}`}},
		{name: "no service", specs: []string{`{windows: [{floor: 1}]}`}, want: []string{"office spec.service: there is no service title"}},
		{name: "expired", service: plan.Service{There: true}, specs: []string{`{windows: [{floor: 1}], until: "2026-11-22T00:00:00Z"}`}, want: []string{"office spec.until: expired on Sun 22 Nov 2026 00:00"}},
		{name: "never begins", service: plan.Service{There: true}, specs: []string{`{windows: [{days: [Mon], from: "2026-11-24", until: "2026-11-27", floor: 1}, {floor: 1}]}`},
			want: []string{"office from 2026-11-24 Mon: never begins"}},
		{name: "above max-scale", service: plan.Service{There: true, Base: schedule.Base{Max: 2}}, specs: []string{`{windows: [{name: big, floor: 3}]}`},
			want: []string{"office big: can never be met: the service's own max-scale is 2"}},
		{name: "above the GPUs", service: plan.Service{There: true, GPUs: 2}, limits: plan.Limits{GPUs: 4}, specs: []string{`{windows: [{name: big, floor: 3}]}`},
			want: []string{"office big: takes 6 GPUs, and there are 4"}},
		{name: "a cap below a floor", service: plan.Service{There: true}, specs: []string{`{windows: [{name: day, start: "08:00", end: "18:00", floor: 3}]}`, `{windows: [{start: "12:00", end: "13:00", cap: 1}]}`},
			want: []string{"office day: cut to the cap of 1, first on Mon 23 Nov 2026 12:00"}},
		{name: "within another", service: plan.Service{There: true}, specs: []string{`{windows: [{name: day, start: "08:00", end: "18:00", floor: 3}, {name: noon, start: "12:00", end: "13:00", floor: 2}]}`},
			want: []string{"office noon: office: day asks for as much"}},
		{name: "twice the same", service: plan.Service{There: true}, specs: []string{`{windows: [{name: day, floor: 3, cap: 4}]}`, `{windows: [{name: day, floor: 3}]}`},
			want: []string{"sale day: office: day asks for as much"}},
		{name: "never open then", service: plan.Service{There: true}, specs: []string{`{windows: [{name: night, start: "22:00", end: "06:00", closed: true}]}`, `{windows: [{name: late, start: "23:00", end: "01:00", floor: 1}]}`},
			want: []string{"sale late: office: night closes the service"}},
		{name: "closed for ever", service: plan.Service{There: true}, specs: []string{`{windows: [{closed: true}]}`}, want: []string{"office : closed for ever"}},
		{name: "ready by nothing", service: plan.Service{There: true}, specs: []string{`{readyBy: true, windows: [{cap: 1}]}`}, want: []string{"office spec.readyBy: no floor"}},
		{name: "no lead time", service: plan.Service{There: true}, specs: []string{`{readyBy: true, windows: [{floor: 1}]}`}, want: []string{"office spec.readyBy: declare leadTime"}},
		{name: "floor 0", service: plan.Service{There: true}, specs: []string{`{windows: [{name: none, floor: 0}]}`}, want: []string{"office none: asks for nothing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.service.Name = "title"
			got := plan.Lint([]plan.Service{service(t, tt.service, tt.specs...)}, tt.limits, true, now)
			if len(got) != len(tt.want) {
				t.Fatalf("%+v\nwant %q", got, tt.want)
			}
			for i, f := range got {
				where, part, _ := strings.Cut(tt.want[i], ": ")
				if f.Schedule+" "+f.Where != where || !strings.Contains(f.Message, part) {
					t.Errorf("%+v, want %s", f, tt.want[i])
				}
			}
		})
	}
}
