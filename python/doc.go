// Package python holds aisle_model, the Python package that writes model
// packages, to the Go code that serves them: equal n-grams and pictures, read
// from goldens that each side writes for the other, and its own tests and types.
// It has no Go code to import.
package python
