package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/engine/clock/clocktest"
	"aisle.dev/aisle/activator/engine/hand"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/internal/scaling"
)

// onRecord is the audit log of the Service one, the oldest first.
func onRecord(t *testing.T, c *control) []string {
	t.Helper()
	c.mu.Lock() // the round that is under way is on record at its end
	defer c.mu.Unlock()
	all, err := c.engine.audit.Read("default", "one", 100)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all)
	var lines []string
	for _, e := range all {
		until := "-"
		if !e.Until.IsZero() {
			until = e.Until.Format("15:04")
		}
		lines = append(lines, fmt.Sprintf("%s %s by %s: %s: %s: %v → %v until %s", e.Time.Format("Mon 15:04"), e.Way, e.By, e.Schedule, e.Did, e.Old, e.New, until))
	}
	return lines
}

// Each change of bounds is on record once, with its cause: who asked for it,
// which window began or ended, and what came while no engine ran.
func TestChangesAreOnRecord(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	now := clocktest.At(monday("07:00:00"))
	somebody := access.Caller{Way: audit.Socket, Name: "uid 7"}
	c := controllingAt(t, now, dir, kept, settings+"---"+oneService("1"))
	if _, _, _, err := c.Apply(somebody, read(t, aSchedule("hours", officeHours))[0], false); err != nil {
		t.Fatal(err)
	}
	now.Move(monday("08:30:00"))
	status(t, c, "hours", floorIs(2))
	if _, err := c.Update("default", "one", func(s hand.State) (hand.Change, error) {
		set, err := scaling.ByHand{Min: new(int32(3)), For: "1h"}.Schedule("default", "one", "token ci", s.Now)
		return hand.Change{Schedule: set, Entry: audit.Entry{Way: audit.TCP, By: "ci", Did: "set by hand"}}, err
	}); err != nil {
		t.Fatal(err)
	}
	now.Move(monday("09:45:00")) // what was set by hand has expired
	status(t, c, "hours", floorIs(2))
	now.Move(monday("18:30:00"))
	status(t, c, "hours", floorIs(0))
	c.stop()
	again := controllingAt(t, clocktest.At(monday("12:00:00").AddDate(0, 0, 1)), dir, kept, settings+"---"+oneService("1"))
	defer again.stop()
	if _, err := again.Delete(somebody, objects.Schedules.Key("default", "hours")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Mon 07:00 socket by uid 7: hours: applied: 0 or more → 0 or more until -",
		"Mon 08:30 clock by : hours: office begins: 0 or more → 2 to 4 until 18:00",
		"Mon 08:30 tcp by ci: one-by-hand: set by hand: 2 to 4 → 3 to 4 until 09:30",
		"Mon 09:45 clock by : one-by-hand: always ends: 3 to 4 → 2 to 4 until -",
		"Mon 18:30 clock by : hours: office ends: 2 to 4 → 0 or more until -",
		"Tue 12:00 start by : : changed since an engine ran last: 0 or more → 2 to 4 until -",
		"Tue 12:00 socket by uid 7: hours: deleted: 2 to 4 → 0 or more until -",
	}
	if diff := cmp.Diff(want, onRecord(t, again)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
