// Package openapi lints the classifier's OpenAPI document with a library that
// validates documents of OpenAPI 3.1. It is a module of its own, so that the
// library's dependencies never change what Aisle is built with.
package openapi
