package schedule

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// zones keeps one *time.Location per name: they do not change, a thousand
// schedules share a few, and each takes kilobytes. The database bounds it.
var zones sync.Map

// zone finds a time zone of the IANA database.
func zone(name string) (*time.Location, error) {
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), nil
	}
	// Local is whatever machine this runs on.
	if loc, err := time.LoadLocation(name); err == nil && name != "Local" {
		zones.Store(name, loc)
		return loc, nil
	}
	return nil, fmt.Errorf("%.64q is no time zone here; write a name of the IANA database, such as %s", name, likeZone(name))
}

// likeZone is a zone that the name may mean: with the same place, or the
// beginning of one, whatever the letters' case. It looks into the database of
// the system, where there is one.
func likeZone(name string) string {
	const otherwise = "Europe/Berlin"
	place := strings.ToLower(path.Base(strings.ReplaceAll(name, " ", "_")))
	if len(place) < 3 || len(place) > 64 {
		return otherwise
	}
	found := ""
	database := os.DirFS("/usr/share/zoneinfo")
	_ = fs.WalkDir(database, ".", func(p string, e fs.DirEntry, err error) error { // nothing found is an answer
		switch {
		case err != nil:
			return fs.SkipAll
		case e.IsDir() && (p == "posix" || p == "right"):
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		base := strings.ToLower(path.Base(p))
		if base == place && strings.Contains(p, "/") {
			found = p
			return fs.SkipAll
		}
		if found == "" && strings.HasPrefix(base, place) && strings.Contains(p, "/") {
			found = p
		}
		return nil
	})
	if found == "" {
		return otherwise
	}
	return found
}
