package schedule

import (
	"fmt"
	"testing"
	"time"

	"aisle.dev/aisle/internal/scaling"
)

// hostile are schedules as dear to ask as they can be written.
var hostile = map[string]func() scaling.Spec{
	"cron that comes once in years": func() (s scaling.Spec) {
		for range scaling.MaxWindows {
			s.Windows = append(s.Windows, scaling.Window{Cron: &scaling.Cron{Start: "0 0 29 2 *", End: "1 0 29 2 *"}, Hold: scaling.Hold{Floor: new(int32(1))}})
		}
		return s
	},
	"cron that changes every minute": func() (s scaling.Spec) {
		for range scaling.MaxWindows {
			s.Windows = append(s.Windows, scaling.Window{Cron: &scaling.Cron{Start: "*/2 * * * *", End: "1-59/2 * * * *"}, Hold: scaling.Hold{Floor: new(int32(1))}})
		}
		return s
	},
	"cron that exceptions take every tick from": func() (s scaling.Spec) {
		for range scaling.MaxWindows {
			s.Windows = append(s.Windows, scaling.Window{Cron: &scaling.Cron{Start: "0 8 * * 1", End: "0 9 29 2 *"}, Hold: scaling.Hold{Floor: new(int32(1))}})
		}
		for i := range scaling.MaxExceptions {
			s.Exceptions = append(s.Exceptions, scaling.Exception{Dates: []string{eight.AddDate(0, 0, 7*i).Format(time.DateOnly)}})
		}
		return s
	},
	"cron whose start and end come together": func() (s scaling.Spec) {
		for range scaling.MaxWindows {
			s.Windows = append(s.Windows, scaling.Window{Cron: &scaling.Cron{Start: "0 0 29 2 *", End: "0 0 29 2 *"}, Hold: scaling.Hold{Floor: new(int32(1))}})
		}
		return s
	},
	"windows of exceptions": func() (s scaling.Spec) {
		for i := range scaling.MaxServiceWindows / scaling.MaxExceptionWindows {
			e := scaling.Exception{Dates: []string{eight.AddDate(0, 0, i).Format(time.DateOnly)}}
			for j := range scaling.MaxExceptionWindows {
				e.Windows = append(e.Windows, scaling.Window{Start: fmt.Sprintf("%02d:00", j), End: fmt.Sprintf("%02d:30", j), Hold: scaling.Hold{Floor: new(int32(1))}})
			}
			s.Exceptions = append(s.Exceptions, e)
		}
		return s
	},
}

var eight = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// BenchmarkHostile asks a service that has as many of each as it may have.
func BenchmarkHostile(b *testing.B) {
	for name, make := range hostile {
		b.Run(name, func(b *testing.B) {
			spec := make()
			spec.Service, spec.TimeZone, spec.ReadyBy = "title", "America/New_York", true
			var all []*Schedule
			for {
				s, err := Compile(fmt.Sprint("hostile-", len(all)), &spec)
				if err != nil {
					b.Fatal(err)
				}
				if s.Admit(nil, all, eight) != nil {
					break
				}
				all = append(all, s)
			}
			for b.Loop() {
				At(Base{}, MaxLead, all, eight)
			}
		})
	}
}
