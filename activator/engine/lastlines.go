package engine

import (
	"errors"
	"io/fs"
	"os"
)

// lastLines is where the last n lines of a file begin, and how many there are:
// fewer where it has not so many. A file that is not there has none.
func lastLines(file string, n int) (from int64, lines int, err error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	size := info.Size()
	if n <= 0 || size == 0 {
		return size, 0, nil
	}
	block := make([]byte, 64<<10)
	for end := size; end > 0; {
		at := max(0, end-int64(len(block)))
		part := block[:end-at]
		if _, err := f.ReadAt(part, at); err != nil {
			return 0, 0, err
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] != '\n' || at+int64(i) == size-1 { // the last line's own end
				continue
			}
			if lines++; lines == n {
				return at + int64(i) + 1, n, nil
			}
		}
		end = at
	}
	return 0, lines + 1, nil
}
