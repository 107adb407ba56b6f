// Package models holds the model packages that Aisle ships, each in a folder
// of its name with the recipe that made it. This Go package only names them:
// tests and tools read the folders.
package models

// Names of the packages.
var Names = []string{"title", "photo"}
