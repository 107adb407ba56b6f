// Package recipes holds Aisle to other projects' clients and tools, in the
// Python environment that its requirements.txt pins. Its tests need packages
// that make test does not want to fetch: they run where AISLE_RECIPES is set,
// as make test-recipes does. It has no Go code to import.
package recipes
