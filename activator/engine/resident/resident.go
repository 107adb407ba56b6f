// Package resident gives back the memory that a process which has come to rest
// does not use: the heap's, and the pages of its program that its start, or work
// that is over, has touched.
//
// Guarantees: what is given back of the program are clean copies of its file,
// which the kernel keeps in its page cache and maps again at the next use, some
// sixteen pages at a time and without reading the disk. A mapping of which one
// page has been written is left alone.
//
// Non-goals: it makes nothing smaller that is in use, and frees nothing that a
// kernel short of memory could not have taken by itself.
package resident

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Release gives back what is not in use now.
func Release() error {
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("give memory back: %w", err)
	}
	defer f.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("give memory back: %w", err)
	}
	clean, err := parse(f, program)
	if err != nil {
		return fmt.Errorf("give memory back: %w", err)
	}
	var errs []error
	for _, m := range clean {
		if _, _, no := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); no != 0 {
			errs = append(errs, fmt.Errorf("give memory back: %w", no))
		}
	}
	return errors.Join(errs...)
}

// mapping is from one address up to before another.
type mapping struct{ from, to uintptr }

// parse finds in the text of smaps(5) the mappings of the program's file that
// nobody may write, and of which no page is a copy of the process's own: such as
// relocations, which the file does not have.
func parse(smaps io.Reader, program string) ([]mapping, error) {
	var clean []mapping
	var at mapping
	candidate := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if from, to, ok := strings.Cut(fields[0], "-"); ok && len(fields) >= 5 {
			begin, err := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			if err := errors.Join(err, err2); err != nil {
				return nil, fmt.Errorf("read smaps: %w", err)
			}
			at = mapping{uintptr(begin), uintptr(end)}
			candidate = len(fields) >= 6 && strings.Join(fields[5:], " ") == program && fields[1][0] == 'r' && fields[1][1] == '-' && fields[1][3] == 'p'
			continue
		}
		if candidate && fields[0] == "Anonymous:" && len(fields) > 1 && fields[1] == "0" {
			clean = append(clean, at)
		}
	}
	return clean, lines.Err()
}
