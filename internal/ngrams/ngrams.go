// Package ngrams turns text into a bag of hashed n-grams: the features of the
// title classifier. Training and serving call the same code.
package ngrams

import "fmt"

// Config says which n-grams are taken and how they are hashed.
type Config struct {
	Buckets   int    `json:"buckets"`   // rows of the model's table; ids are in [0, Buckets)
	Words     [2]int `json:"words"`     // shortest and longest word n-gram
	Chars     [2]int `json:"chars"`     // shortest and longest character n-gram within a word
	MaxTokens int    `json:"maxTokens"` // most n-grams taken of one product
}

// Field is one named text of a product, in the package's reads order.
type Field struct{ Name, Text string }

// Validate checks the bounds.
func (c Config) Validate() error {
	if c.Buckets < 1 || c.MaxTokens < 1 {
		return fmt.Errorf("hashedNgrams: buckets %d, maxTokens %d: want numbers above 0", c.Buckets, c.MaxTokens)
	}
	return nil
}

// Features returns the ids and weights of the fields' n-grams: equally long,
// at most MaxTokens, ids distinct.
func (c Config) Features(fields []Field) (ids []int32, weights []float32) {
	panic("written with the trainer")
}
