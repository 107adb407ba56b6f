package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"aisle.dev/aisle/cmd/aisle/internal/delivery"
	"aisle.dev/aisle/internal/feed"
)

// fileFlags say how a file of products is read and sent.
type fileFlags struct {
	format, charset          string
	delimiter                string
	columns                  feed.Columns
	attributes               []string
	images                   string
	to, broker               string
	skip, limit, concurrency int
	attempts                 int
	timeout                  time.Duration
	distributions            bool // all that each leg says is asked for
}

// defaultConcurrency keeps two cores busy: with 16 the classifiers' batches are
// small and the cores idle at times, with 64 products only wait longer
// (products/s of 5,000 with photos: 16: 220-340, 32: 390-445, 64: 340-390).
const defaultConcurrency = 32

func (f *fileFlags) flags(cmd *cobra.Command, categories bool) {
	s := cmd.Flags()
	s.StringVar(&f.to, "to", "", "the composer's URL (default: of the engine that runs, or as the cluster says)")
	s.StringVar(&f.format, "format", "", strings.Join(feed.Formats(), ", ")+" (default: seen from the file)")
	s.StringVar(&f.charset, "charset", "", "such as windows-1250 (default: what the file says, or looks like)")
	s.StringVar(&f.delimiter, "delimiter", "", "of CSV (default: comma, semicolon, tab or bar, seen from the header)")
	s.StringVar(&f.columns.ID, "id", "", "column of the id (default id)")
	s.StringVar(&f.columns.Title, "title", "", "column of the title (default title)")
	s.StringVar(&f.columns.Description, "description", "", "column of the description (default description)")
	s.StringVar(&f.columns.Brand, "brand", "", "column of the brand (default brand)")
	s.StringVar(&f.columns.Image, "image", "", "column of the image: a path (relative to the file, or in --images), or a URL (default image)")
	if categories {
		s.StringVar(&f.columns.Category, "category", "", "column of the true category (default category)")
	}
	s.StringArrayVar(&f.attributes, "attribute", nil, "an attribute: NAME, or NAME=COLUMN (repeat it; columns named attributes.NAME need none)")
	s.StringVar(&f.images, "images", "", "folder of pictures named by id: ID.jpg, .jpeg, .png or .webp; products without one go without")
	s.IntVar(&f.skip, "skip", 0, "leave out the first N products")
	s.IntVar(&f.limit, "limit", 0, "send at most N products (0: all)")
	s.IntVar(&f.concurrency, "concurrency", defaultConcurrency, "products in flight")
	s.IntVar(&f.attempts, "attempts", 6, "at most, where the service is full or the connection breaks")
	s.DurationVar(&f.timeout, "timeout", time.Minute, "for one product, all attempts together")
	_ = cmd.MarkFlagDirname("images")                                                                                        // fails only for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(feed.Formats(), cobra.ShellCompDirectiveNoFileComp)) // likewise
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return []string{"csv", "tsv", "ndjson", "jsonl", "xml", "gz", "zip"}, cobra.ShellCompDirectiveFilterFileExt
	}
}

// check finds what no file can make right.
func (f *fileFlags) check() error {
	switch {
	case f.concurrency < 1 || f.concurrency > 1024:
		return usagef("--concurrency %d: use 1 to 1024", f.concurrency)
	case f.attempts < 1 || f.attempts > 100:
		return usagef("--attempts %d: use 1 to 100", f.attempts)
	case f.limit < 0 || f.skip < 0:
		return usagef("--limit and --skip count products: use 0 or more")
	case f.timeout <= 0:
		return usagef("--timeout %v: use a duration such as 30s", f.timeout)
	case f.format != "" && !slices.Contains(feed.Formats(), f.format):
		return usagef("--format %q: use %s", f.format, strings.Join(feed.Formats(), ", "))
	case f.charset != "" && !slices.Contains(feed.Charsets(), f.charset):
		return usagef("--charset %q: use %s", f.charset, strings.Join(feed.Charsets(), ", "))
	}
	f.columns.Attributes = map[string]string{}
	for _, text := range f.attributes {
		name, column, ok := strings.Cut(text, "=")
		if !ok {
			column = name
		}
		if name == "" || column == "" {
			return usagef("--attribute %q: use NAME or NAME=COLUMN", text)
		}
		if _, twice := f.columns.Attributes[name]; twice {
			return usagef("--attribute %s is there twice", name)
		}
		f.columns.Attributes[name] = column
	}
	_, err := f.comma()
	return err
}

func (f *fileFlags) comma() (rune, error) {
	switch f.delimiter {
	case "":
		return 0, nil
	case `\t`, "tab":
		return '\t', nil
	}
	r, n := utf8.DecodeRuneInString(f.delimiter)
	if n != len(f.delimiter) || r == utf8.RuneError || r == '"' || r == '\r' || r == '\n' {
		return 0, usagef("--delimiter %q: use one character, or tab", f.delimiter)
	}
	return r, nil
}

// file is an open file of products.
type file struct {
	*feed.Reader
	path     string // as given
	name     string // for messages
	size     int64  // -1: not known
	pictures *feed.Pictures
	state    *delivery.State // of a sending that can be resumed; or nil
	stop     func()          // ends a read that waits
	close    func() error
}

// fraction is how much of the file has been read; the progress line's ETA
// comes from it. Negative: not known.
func (f *file) fraction(done, limit int) float64 {
	part := -1.0
	if f.size > 0 {
		part = float64(f.Offset()) / float64(f.size)
	}
	if limit > 0 {
		part = max(part, float64(done)/float64(limit))
	}
	return min(part, 1)
}

// open opens a file, or standard input for "-".
func (a *app) open(ctx context.Context, name string, f *fileFlags, category bool) (*file, error) {
	delimiter, err := f.comma()
	if err != nil {
		return nil, err
	}
	opts := feed.Options{Name: name, Format: feed.Format(f.format), Delimiter: delimiter, Charset: f.charset, Columns: f.columns, Category: category, Images: f.images != ""}
	out := &file{path: name, name: name, size: -1, stop: func() {}, close: func() error { return nil }}
	var in io.Reader
	beside := "."
	if name == "-" {
		opts.Name, out.name = "standard input", "standard input"
		s := newStoppable(a.In)
		in, out.stop = s, s.stop
		context.AfterFunc(ctx, s.stop) // also while the header is waited for
	} else {
		opened, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no file %s", name)
		}
		if err != nil {
			return nil, fmt.Errorf("open the products: %w", err)
		}
		info, err := opened.Stat()
		if err == nil && info.IsDir() {
			err = fmt.Errorf("%s is a folder; give a file of products", name)
		}
		if err != nil {
			_ = opened.Close() // nothing was read
			return nil, err
		}
		if info.Mode().IsRegular() {
			out.size = info.Size()
		}
		in, beside, out.close = opened, filepath.Dir(name), opened.Close
	}
	if out.Reader, err = feed.New(in, opts); err == nil {
		out.pictures, err = feed.OpenPictures(beside, f.images)
	}
	if ctx.Err() != nil {
		err = &exit{Interrupted, errors.New("interrupted")}
	}
	if err != nil {
		_ = out.close() // the first error says more
		return nil, err
	}
	closeFile := out.close
	out.close = func() error { return errors.Join(closeFile(), out.pictures.Close()) }
	return out, nil
}

// source is the events' source for products of a file: the same file sent
// again makes the same events.
func source(name string) string {
	if name == "-" {
		return "/aisle/send"
	}
	return "/aisle/send/" + strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(`"%<>\^{|}?#`+"`", r) {
			return '-'
		}
		return r
	}, filepath.Base(name))
}

// poster returns what sends to the composer, once it is known to listen.
func (a *app) poster(cmd *cobra.Command, f *fileFlags, source string) (*delivery.Poster, error) {
	to, err := a.target(cmd.Context(), cmp.Or(f.broker, f.to), "composer")
	if err != nil {
		return nil, err
	}
	attempts := f.attempts
	if f.broker != "" {
		to.help = "see the broker's URL with: kubectl get brokers -A; from outside of the cluster, port-forward service/broker-ingress in knative-eventing"
		if !cmd.Flags().Changed("attempts") {
			attempts = 0
		}
	}
	p := &delivery.Poster{To: to.url, Gateway: to.gateway, Help: to.help, Source: source, Broker: f.broker != "", Attempts: attempts, Timeout: f.timeout, Distributions: f.distributions, Client: delivery.NewClient(f.concurrency, to.gateway)}
	return p, p.Check(cmd.Context())
}
