package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/words"
)

// rounded keeps three digits: what the data can tell, and a person can read.
func rounded(p reduce.Pool) reduce.Pool {
	out := reduce.Pool{Temperature: math.Round(p.Temperature*1000) / 1000}
	for _, w := range p.Weights {
		out.Weights = append(out.Weights, math.Round(w*1000)/1000)
	}
	return out
}

var temperatureRE = regexp.MustCompile(`(?m)^(\s*reducer:.*\btemperature: )[0-9.]+`)

// setPool puts the pool's numbers into a composition, and leaves all other
// text, comments too, as it is.
func setPool(text []byte, legs []string, pool reduce.Pool) ([]byte, error) {
	for i, leg := range legs {
		re := regexp.MustCompile(`(?m)^(\s*- \{name: ` + regexp.QuoteMeta(leg) + `,.*\bweight: )[0-9.]+`)
		if n := len(re.FindAllIndex(text, -1)); n != 1 {
			return nil, fmt.Errorf("%d lines like `- {name: %s, ..., weight: W}`: want one", n, leg)
		}
		text = re.ReplaceAll(text, []byte("${1}"+strconv.FormatFloat(pool.Weights[i], 'f', -1, 64)))
	}
	if n := len(temperatureRE.FindAllIndex(text, -1)); n != 1 {
		return nil, fmt.Errorf("%d lines like `reducer: {..., temperature: T}`: want one", n)
	}
	return temperatureRE.ReplaceAll(text, []byte("${1}"+strconv.FormatFloat(pool.Temperature, 'f', -1, 64))), nil
}

// slug makes an id of a category's name.
func slug(name string) string { return strings.ReplaceAll(words.Fold(name), " ", "-") }
