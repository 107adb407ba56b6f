package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Invalid is everything that is wrong with a folder or with some objects.
type Invalid struct {
	Dir      string    // empty: objects that came by themselves
	Problems []Problem // sorted by object and path
}

// Problem is one thing that is wrong.
type Problem struct {
	Object string // "Service default/title", or a file; empty for the folder
	Path   string // "spec.template.spec.containers[0].imagee"; empty for a whole object
	Reason string
}

func (e *Invalid) Error() string {
	var b strings.Builder
	if e.Dir != "" {
		fmt.Fprintf(&b, "manifests in %s cannot be used here:", e.Dir)
	} else {
		b.WriteString("it cannot be used here:")
	}
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %s", p)
	}
	return b.String()
}

func (p Problem) String() string {
	var parts []string
	for _, s := range []string{p.Object, p.Path, p.Reason} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// maxProblems bounds what a hostile folder can make us report.
const maxProblems = 50

// findings collects what is wrong and what is ignored.
type findings struct {
	problems []Problem
	ignored  []Ignored
}

func (f *findings) refuse(object, path, format string, args ...any) {
	f.problems = append(f.problems, Problem{Object: object, Path: path, Reason: fmt.Sprintf(format, args...)})
}

func (f *findings) ignore(object, path, reason string) {
	f.ignored = append(f.ignored, Ignored{Object: object, Path: path, Reason: reason})
}

// err gives all problems as one error, or nil.
func (f *findings) err(dir string) error {
	if len(f.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(f.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Path, b.Path))
	})
	f.problems = slices.Compact(f.problems)
	if n := len(f.problems); n > maxProblems {
		f.problems = append(f.problems[:maxProblems:maxProblems], Problem{Reason: fmt.Sprintf("and %d more", n-maxProblems)})
	}
	return &Invalid{Dir: dir, Problems: f.problems}
}
