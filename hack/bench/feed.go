package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"aisle.dev/aisle/internal/feed"
)

const (
	feedPart   = 64 << 20 // bytes of a feed that are read again and again for the rate
	feedStream = 5 << 30  // bytes of the feed whose memory is measured
	feedRounds = 5
)

// readFeed measures the reader of Heureka's XML: its rate on one core, against
// encoding/xml over the same bytes in turn, and its memory over a long feed.
func readFeed(ctx context.Context, b *bench) ([]row, error) {
	part, err := io.ReadAll(io.LimitReader(&shop{bodies: shopItems()}, feedPart))
	if err != nil {
		return nil, err
	}
	part = append(part[:bytes.LastIndex(part, []byte("<SHOPITEM>"))], "</SHOP>"...)
	var ours, theirs, times sample
	items := 0
	for i := range feedRounds {
		began := time.Now()
		if items, err = readAll(ctx, bytes.NewReader(part)); err != nil {
			return nil, err
		}
		rate := float64(len(part)) / 1e6 / time.Since(began).Seconds()
		began = time.Now()
		n, err := readXML(bytes.NewReader(part))
		if err != nil {
			return nil, err
		}
		if n != items {
			return nil, fmt.Errorf("encoding/xml finds %d items, the feed's reader %d", n, items)
		}
		other := float64(len(part)) / 1e6 / time.Since(began).Seconds()
		ours, theirs, times = append(ours, rate), append(theirs, other), append(times, rate/other)
		fmt.Fprintf(b.log, "\rfeed: %d of %d", i+1, feedRounds)
	}
	debug.FreeOSMemory()
	before, err := resident(os.Getpid(), "VmRSS:")
	if err != nil {
		return nil, err
	}
	var most float64
	part = nil
	began := time.Now()
	long := &shop{bodies: shopItems(), end: feedStream}
	n, err := readAll(ctx, &watched{r: long, look: func(read int64) error {
		fmt.Fprintf(b.log, "\rfeed: %.1f of %.1f GB", float64(read)/1e9, float64(feedStream)/1e9)
		now, err := resident(os.Getpid(), "VmRSS:")
		most = max(most, now)
		return err
	}})
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(b.log)
	return []row{
		{fmt.Sprintf("Heureka's XML, %d items of %.1f KB, MB/s on one core", items, float64(feedPart)/1e3/float64(items)), ours.String(), "≥ 100"},
		{"  encoding/xml into a struct, MB/s", theirs.String(), ""},
		{"  times as fast", times.String(), ""},
		{fmt.Sprintf("  a feed of 5 GB, %d items, in %.0f s: most memory, MB", n, time.Since(began).Seconds()), fmt.Sprintf("%.0f (%.0f before)", most, before), "≤ 200"},
	}, nil
}

// readAll reads a feed as `aisle send` does, and counts its products.
func readAll(ctx context.Context, in io.Reader) (n int, err error) {
	r, err := feed.New(in, feed.Options{Name: "the feed"})
	if err != nil {
		return 0, err
	}
	for ctx.Err() == nil {
		item, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		case item.Err != nil:
			return n, item.Err
		case item.Product.Title == "" || len(item.Product.Attributes) == 0:
			return n, fmt.Errorf("%s came without its title or parameters", item.Key())
		}
		n++
	}
	return n, ctx.Err()
}

// readXML counts the items that encoding/xml finds, each read into a struct.
func readXML(in io.Reader) (n int, err error) {
	dec := xml.NewDecoder(in)
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "SHOPITEM" {
			var item struct {
				ID          string   `xml:"ITEM_ID"`
				Title       string   `xml:"PRODUCTNAME"`
				Description string   `xml:"DESCRIPTION"`
				Images      []string `xml:"IMGURL"`
				More        []string `xml:"IMGURL_ALTERNATIVE"`
				Brand       string   `xml:"MANUFACTURER"`
				Category    string   `xml:"CATEGORYTEXT"`
				EAN         string   `xml:"EAN"`
				Params      []struct {
					Name string `xml:"PARAM_NAME"`
					Val  string `xml:"VAL"`
				} `xml:"PARAM"`
			}
			if err := dec.DecodeElement(&item, &start); err != nil {
				return n, err
			}
			n++
		}
	}
}

// shopItems are what the items of a feed hold after their id: names, a description
// with markup, addresses, parameters; the same ones each time.
func shopItems() []string {
	r := rand.New(rand.NewPCG(8, 8))
	words := strings.Fields("košile bavlna modrá pánská kabát zimní dlouhý rukáv boty kožené sportovní taška přes rameno hodinky ocelové voděodolné " +
		"shirt cotton blue men coat winter long sleeve shoes leather sport bag shoulder watch steel waterproof")
	some := func(n int) string {
		out := make([]string, n)
		for i := range out {
			out[i] = words[r.IntN(len(words))]
		}
		return strings.Join(out, " ")
	}
	items := make([]string, 500)
	for i := range items {
		var b strings.Builder
		fmt.Fprintf(&b, "</ITEM_ID>\n    <PRODUCTNAME>%s &amp; %s</PRODUCTNAME>\n    <DESCRIPTION><![CDATA[", some(4), some(2))
		for range 2 + r.IntN(5) {
			fmt.Fprintf(&b, "<p>%s <strong>%s</strong>, %s.</p>\n", some(12), some(2), some(15))
		}
		fmt.Fprintf(&b, "]]></DESCRIPTION>\n    <URL>https://shop.example/%s</URL>\n", strings.ReplaceAll(some(3), " ", "-"))
		for n := range 1 + r.IntN(3) {
			tag := "IMGURL"
			if n > 0 {
				tag = "IMGURL_ALTERNATIVE"
			}
			fmt.Fprintf(&b, "    <%s>https://img.shop.example/%d/%d.jpg</%s>\n", tag, r.IntN(1e6), n, tag)
		}
		fmt.Fprintf(&b, "    <PRICE_VAT>%d</PRICE_VAT>\n    <MANUFACTURER>%s</MANUFACTURER>\n    <CATEGORYTEXT>Oblečení | %s</CATEGORYTEXT>\n    <EAN>%d</EAN>\n", r.IntN(1e4), some(1), some(1), 8590000000000+r.Int64N(1e9))
		for range 2 + r.IntN(6) {
			fmt.Fprintf(&b, "    <PARAM><PARAM_NAME>%s</PARAM_NAME><VAL>%s</VAL></PARAM>\n", some(1), some(1+r.IntN(2)))
		}
		b.WriteString("    <DELIVERY><DELIVERY_ID>PPL</DELIVERY_ID><DELIVERY_PRICE>99</DELIVERY_PRICE></DELIVERY>\n  </SHOPITEM>\n")
		items[i] = b.String()
	}
	return items
}

// shop is a feed that is made as it is read: each item has an id of its own.
type shop struct {
	bodies  []string
	end     int64 // after so many bytes; 0: never
	n       int
	given   int64
	pending []byte
}

func (s *shop) Read(p []byte) (int, error) {
	if len(s.pending) == 0 {
		switch {
		case s.end > 0 && s.given >= s.end && s.n < 0:
			return 0, io.EOF
		case s.end > 0 && s.given >= s.end:
			s.pending, s.n = append(s.pending[:0], "</SHOP>\n"...), -1
		case s.n == 0:
			s.pending = append(s.pending[:0], "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<SHOP>\n"...)
			s.n++
		default:
			s.pending = fmt.Appendf(s.pending[:0], "  <SHOPITEM>\n    <ITEM_ID>%d%s", s.n, s.bodies[s.n%len(s.bodies)])
			s.n++
		}
	}
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	s.given += int64(n)
	return n, nil
}

// watched looks at what is going on every 100 MB.
type watched struct {
	r    io.Reader
	look func(read int64) error
	n    int64
	next int64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.n += int64(n); w.n >= w.next {
		w.next = w.n + 100<<20
		if err := w.look(w.n); err != nil {
			return n, err
		}
	}
	return n, err
}
