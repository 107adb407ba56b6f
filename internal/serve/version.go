package serve

import "runtime/debug"

// Version names this program: the commit it was built from, or its module's
// version.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	switch {
	case revision != "":
		return revision + modified
	case info.Main.Version != "":
		return info.Main.Version
	}
	return "devel"
}
