// Package samples holds products made for this project: titles and drawings.
// It has no code, only the test that they can be read and are whole.
package samples
