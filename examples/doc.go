// Package examples holds the examples to what their READMEs promise: each adds
// a classifier to the shipped ones by YAML alone, and answers behind `aisle up`.
// It has no Go code to import.
package examples
