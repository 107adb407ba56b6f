// Package expansion replaces references of the form $(NAME) in a container's
// command and environment as Kubernetes does: a name that is not known stays
// as it is written, and $$ is a dollar sign that begins no reference.
//
// It is no shell: nothing else is replaced, and what a value brings with it is
// not expanded again.
package expansion

import "strings"

// Expand replaces the references in s by what lookup knows.
func Expand(s string, lookup func(name string) (string, bool)) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "$")
		b.WriteString(before)
		switch {
		case !ok:
			return b.String()
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			s = rest[1:]
			continue
		case strings.HasPrefix(rest, "("):
			if name, after, closed := strings.Cut(rest[1:], ")"); closed {
				if value, known := lookup(name); known {
					b.WriteString(value)
				} else {
					b.WriteString("$(" + name + ")")
				}
				s = after
				continue
			}
		}
		b.WriteByte('$')
		s = rest
	}
}
