package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"aisle.dev/aisle/internal/reduce"
	"aisle.dev/aisle/internal/words"
)

var (
	temperatureRE = regexp.MustCompile(`(?m)^(\s*reducer:.*\btemperature: )[0-9.]+`)
	hasPriorRE    = regexp.MustCompile(`(?m)^[^#\n]*\bprior:`)
	calibrationRE = regexp.MustCompile(`(?m)^([^#\n]*\bcalibration: )\[.*\]`)
	priorRE       = regexp.MustCompile(`(?m)^(\s*reducer:.*\bprior: \{file: prior\.csv, weight: )[0-9.]+`)
)

// setPool puts the pool's numbers and its calibration into a composition, and
// leaves all other text, comments too, as it is. A prior is not added to one
// that has none.
func setPool(text []byte, legs []string, pool reduce.Pool, calibration []reduce.Pattern) ([]byte, error) {
	number := func(x float64) []byte { return []byte("${1}" + strconv.FormatFloat(x, 'f', -1, 64)) }
	for i, leg := range legs {
		re := regexp.MustCompile(`(?m)^(\s*- \{name: ` + regexp.QuoteMeta(leg) + `,.*\bweight: )[0-9.]+`)
		if n := len(re.FindAllIndex(text, -1)); n != 1 {
			return nil, fmt.Errorf("%d lines like `- {name: %s, ..., weight: W}`: want one", n, leg)
		}
		text = re.ReplaceAll(text, number(pool.Weights[i]))
	}
	if n := len(temperatureRE.FindAllIndex(text, -1)); n != 1 {
		return nil, fmt.Errorf("%d lines like `reducer: {..., temperature: T}`: want one", n)
	}
	if n := len(priorRE.FindAllIndex(text, -1)); n > 1 || (n == 1) != hasPriorRE.Match(text) {
		return nil, fmt.Errorf("%d lines like `reducer: {..., prior: {file: prior.csv, weight: V}}`: want one, or no prior at all", n)
	}
	if n := len(calibrationRE.FindAllIndex(text, -1)); n != 1 {
		return nil, fmt.Errorf("%d lines like `calibration: [...]`: want one", n)
	}
	var patterns []string
	for _, p := range calibration {
		var names []string
		for _, i := range p.Legs {
			names = append(names, legs[i])
		}
		patterns = append(patterns, fmt.Sprintf("{legs: [%s], temperature: %v}", strings.Join(names, ", "), p.Temperature))
	}
	text = calibrationRE.ReplaceAll(text, []byte("${1}["+strings.Join(patterns, ", ")+"]"))
	text = temperatureRE.ReplaceAll(text, number(pool.Temperature))
	return priorRE.ReplaceAll(text, number(pool.PriorWeight)), nil
}

// slug makes an id of a category's name.
func slug(name string) string { return strings.ReplaceAll(words.Fold(name), " ", "-") }
