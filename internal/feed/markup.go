package feed

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// plain takes the markup out of a description: what a browser would show of it,
// on one line. Text without markup stays as it is, and so does a lone < or &.
func plain(text string) string {
	if !strings.ContainsAny(text, "<&") {
		return text
	}
	var out strings.Builder
	out.Grow(len(text))
	z := html.NewTokenizer(strings.NewReader(text))
	hidden := 0 // within script or style
	for {
		switch z.Next() {
		case html.ErrorToken: // the end: it reads from memory
			return strings.Join(strings.Fields(out.String()), " ")
		case html.TextToken:
			if hidden == 0 {
				out.WriteString(html.UnescapeString(string(z.Raw())))
			}
		case html.StartTagToken, html.EndTagToken, html.SelfClosingTagToken:
			raw := z.Raw()
			name, _ := z.TagName()
			switch tag := atom.Lookup(name); {
			case tag == atom.Script || tag == atom.Style:
				if bytes.HasPrefix(raw, []byte("</")) {
					hidden = max(0, hidden-1)
				} else if !bytes.HasSuffix(raw, []byte("/>")) {
					hidden++
				}
			case inline[tag]:
			default:
				out.WriteByte(' ')
			}
		}
	}
}

// inline are the elements that part no words.
var inline = map[atom.Atom]bool{
	atom.A: true, atom.Abbr: true, atom.B: true, atom.Em: true, atom.Font: true, atom.I: true, atom.Small: true,
	atom.Span: true, atom.Strong: true, atom.Sub: true, atom.Sup: true, atom.U: true, atom.Mark: true,
}
