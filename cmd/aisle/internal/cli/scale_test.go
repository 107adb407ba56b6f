package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
)

func TestClockTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, now, text, want string }{
		{"today", "2026-11-23T12:00:00", "18:00", "2026-11-23T18:00:00+01:00"},
		{"tomorrow", "2026-11-23T18:00:00", "18:00", "2026-11-24T18:00:00+01:00"},
		{"over the end of summer time", "2026-10-24T12:00:00", "06:00", "2026-10-25T06:00:00+01:00"},
		{"a whole time", "2026-11-23T12:00:00", "2026-11-27T18:00:00Z", "2026-11-27T18:00:00Z"},
		{"none", "2026-11-23T12:00:00", "", ""},
		{"no time of day", "2026-11-23T12:00:00", "24:61", "!"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, err := time.ParseInLocation("2006-01-02T15:04:05", tt.now, berlin)
			if err != nil {
				t.Fatal(err)
			}
			got, err := clockTime(tt.text, now)
			if err != nil {
				got = "!"
			}
			if got != tt.want {
				t.Errorf("%q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

func TestPodsHeld(t *testing.T) {
	for want, b := range map[string][2]int{
		"as many pods as are needed": {0, 0}, "at least 1 pod": {1, 0}, "at least 2 pods": {2, 0},
		"0 to 3 pods": {0, 3}, "2 pods": {2, 2}, "1 pod": {1, 1},
	} {
		if got := podsHeld(b[0], b[1]); got != want {
			t.Errorf("podsHeld(%v) = %q, want %q", b, got, want)
		}
	}
}

// What holds, as people see it. Text of others does nothing to the terminal.
func TestShowScale(t *testing.T) {
	now := time.Date(2026, 11, 27, 20, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name string
		in   client.Scale
		want string
	}{
		{"bounds", client.Scale{Namespace: "shop", Service: "title", Floor: 2, Cap: 2, Cut: 4, Next: now.Add(3 * time.Hour), Warnings: []string{"a lower cap holds"}, Why: []client.Holding{
			{Floor: 1, Cap: 2}, {Schedule: "office", Window: "day", Floor: 4, Early: true, Until: now.Add(48 * time.Hour)}, {Schedule: "title-by-hand", Floor: 2, By: "uid 0", Reason: "a \x1b[2Jsale"},
		}}, `
Service     shop/title
Holds       2 pods
            a floor of 4 is cut to the cap
Changes     Fri 2026-11-27 23:00:00 UTC (in 3h00m)
note: a lower cap holds

Why
SCHEDULE             WINDOW                    FLOOR  CAP  UNTIL                                  BY     REASON
(the service's own)  -                             1    2  -                                      -      -
office               day (to be ready for it)      4    -  Sun 2026-11-29 20:00:00 UTC (in 2d00h) -      -
title-by-hand        -                             2    -  -                                      uid 0  a ?[2Jsale
`},
		{"closed", client.Scale{Namespace: "shop", Service: "photo", Closed: true, Opens: now.Add(10 * time.Hour), Why: []client.Holding{{Schedule: "nights", Window: "night", Closed: true}}}, `
Service     shop/photo
Holds       closed: it takes no requests, until Sat 2026-11-28 06:00:00 UTC (in 10h00m)

Why
SCHEDULE  WINDOW  CAP
nights    night   closed
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s := screen.Screen{Writer: &out, Width: 200}
			if err := (&app{out: s, err: s}).showScale(tt.in, func() time.Time { return now }); err != nil {
				t.Fatal(err)
			}
			squeeze := func(text string) []string {
				var lines []string
				for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
					lines = append(lines, strings.Join(strings.Fields(line), " "))
				}
				return lines
			}
			if diff := cmp.Diff(squeeze(tt.want), squeeze(out.String())); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, out.String())
			}
		})
	}
}

func TestChangeRows(t *testing.T) {
	now := time.Date(2026, 11, 27, 20, 0, 0, 0, time.UTC)
	var got []string
	for _, row := range changeRows([]audit.Entry{
		{Time: now.Add(-time.Minute), Namespace: "shop", Service: "title", Way: audit.Socket, By: "uid 0", Did: "set by hand", Schedule: "title-by-hand", Old: audit.Bounds{Cap: 4}, New: audit.Bounds{Floor: 2, Cap: 4}, Reason: "a sale", Until: now.Add(time.Hour)},
		{Time: now.Add(-time.Hour), Namespace: "shop", Service: "photo", Way: audit.Clock, Did: "night begins", Schedule: "nights", Old: audit.Bounds{Floor: 1}, New: audit.Bounds{Closed: true}},
	}, func() time.Time { return now }) {
		var cells []string
		for _, c := range row {
			cells = append(cells, c.Text)
		}
		got = append(got, strings.Join(cells, " | "))
	}
	want := []string{
		"1m00s | shop/title | 0 to 4 → 2 to 4 | title-by-hand: set by hand | uid 0 (socket) | Fri 2026-11-27 21:00 UTC | a sale",
		"1h00m | shop/photo | 1 or more → closed | nights: night begins | clock | - | -",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
