package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/pycket/pycket"
)

// A product is something that the shop sells.
type product struct {
	ID, Name, Text string
	Price          money
	Stock          int // how many one visitor may have in the cart
}

// Picture is the product's picture, to be part of the page.
func (p product) Picture() (template.HTML, error) {
	svg, err := files.ReadFile("pages/pictures/" + p.ID + ".svg")
	return template.HTML(svg), err // it is ours, not a visitor's
}

type money int // cents

func (m money) String() string { return fmt.Sprintf("€%d.%02d", m/100, m%100) }

var shelf = []product{
	{"notebook", "Pocket notebook", "Ninety-six dotted pages, sewn, so that it lies flat.", 650, 20},
	{"compass", "Compass", "Finds north, and needs no battery.", 2400, 20},
	{"torch", "Little torch", "Ninety lumens on one AAA cell.", 1800, 20},
	{"pen", "Brass pen", "Writes upside down, and grows old well.", 3200, 20},
	{"watch", "Pocket watch", "Wound by hand every evening. The last three.", 12000, 3},
	{"harmonica", "Harmonica", "Ten holes in C, for the walk home.", 1500, 20},
}

// pencil is free and not on the shelf: see takePencil.
var pencil = product{"pencil", "Pencil", "Free of charge.", 0, 100}

func find(id string) (product, bool) {
	for _, p := range append([]product{pencil}, shelf...) {
		if p.ID == id {
			return p, true
		}
	}
	return product{}, false
}

// A cart says how many of each product. A session can hold anything that encoding/json can encode.
type cart map[string]int

// A line is a product in the cart.
type line struct {
	product
	Quantity int
}

func (l line) Sum() money { return l.Price * money(l.Quantity) }

func (c cart) Lines() []line {
	var lines []line
	for _, p := range append(shelf[:len(shelf):len(shelf)], pencil) {
		if c[p.ID] > 0 {
			lines = append(lines, line{p, c[p.ID]})
		}
	}
	return lines
}

func (c cart) Sum() (sum money) {
	for _, l := range c.Lines() {
		sum += l.Sum()
	}
	return sum
}

func (c cart) Count() (count int) {
	for _, l := range c.Lines() {
		count += l.Quantity
	}
	return count
}

var errStock = errors.New("there are not so many")

// add puts one more into the cart. Get, add and Set would lose what another tab adds in between. Update doesn't: if the
// cart has changed meanwhile, Update calls the function again with the new cart.
func (s *shop) add(p product) error {
	_, err := pycket.Update(s.Session(), "cart", cart{}, func(c cart) (cart, error) {
		if c[p.ID] >= p.Stock {
			return nil, errStock // Update then leaves the cart as it is, and returns this
		}
		c[p.ID]++
		return c, nil
	})
	return err
}

func (s *shop) showShelf(w http.ResponseWriter, r *http.Request) error {
	naive, err := pycket.Get(s.Session(), "naive", 0)
	if err != nil {
		return err
	}
	return s.show(w, r, http.StatusOK, "shelf.html", "Things for your pocket", struct {
		Shelf []product
		Naive int
	}{shelf, naive})
}

func (s *shop) addToCart(w http.ResponseWriter, r *http.Request) error {
	id, err := field(r, "product")
	if err != nil {
		return err
	}
	p, found := find(id)
	if !found {
		return s.goToWith(w, r, "/", failure, "We don’t have that.")
	}
	switch err := s.add(p); {
	case errors.Is(err, errStock):
		return s.goToWith(w, r, "/", warning, fmt.Sprintf("%s: there are only %d, and you have them all.", p.Name, p.Stock))
	case err != nil:
		return err
	}
	return s.goToWith(w, r, "/", success, p.Name+": added to your cart.")
}

func (s *shop) showCart(w http.ResponseWriter, r *http.Request) error {
	return s.show(w, r, http.StatusOK, "cart.html", "Your cart", nil)
}

// changeCart sets how many of a product are in the cart. There may be several messages, all shown on the next page.
func (s *shop) changeCart(w http.ResponseWriter, r *http.Request) error {
	text, err := field(r, "quantity")
	if err != nil {
		return err
	}
	p, found := find(r.PathValue("product"))
	quantity, err := strconv.Atoi(text)
	if err != nil || quantity < 0 || !found {
		return s.goToWith(w, r, "/cart", failure, "Please give a whole number.")
	}
	if quantity > p.Stock {
		quantity = p.Stock
		if err := s.Notifications().Add(warning, fmt.Sprintf("%s: there are only %d.", p.Name, p.Stock)); err != nil {
			return err
		}
	}
	if _, err := pycket.Update(s.Session(), "cart", cart{}, func(c cart) (cart, error) {
		c[p.ID] = quantity
		if quantity == 0 {
			delete(c, p.ID)
		}
		return c, nil
	}); err != nil {
		return err
	}
	if quantity == 0 {
		if p.ID == pencil.ID {
			if err := s.Session().Delete("naive"); err != nil {
				return err
			}
		}
		return s.goToWith(w, r, "/cart", success, p.Name+": removed.")
	}
	return s.goToWith(w, r, "/cart", success, fmt.Sprintf("%s: now %d.", p.Name, quantity))
}

// takePencil is what the button "20 requests at once" asks for, 20 times. It adds a pencil to the cart. Beside that, in
// the same requests, it counts pencils as a library does that reads the session when a request begins, and writes it
// back when the request ends.
func (s *shop) takePencil(w http.ResponseWriter, r *http.Request) error {
	naive, err := pycket.Get(s.Session(), "naive", 0)
	if err != nil {
		return err
	}
	s.askWarehouse(r.Context()) // other requests run meanwhile
	if err := s.add(pencil); err != nil && !errors.Is(err, errStock) {
		return err
	}
	if err := s.Session().Set("naive", naive+1); err != nil {
		return err
	}
	return s.goTo(w, r, "/#pencils")
}

// returnPencils begins the count anew. It also begins the session of a stranger: 20 requests that carry no cookie
// would be those of 20 strangers.
func (s *shop) returnPencils(w http.ResponseWriter, r *http.Request) error {
	if _, err := pycket.Update(s.Session(), "cart", cart{}, func(c cart) (cart, error) {
		delete(c, pencil.ID)
		return c, nil
	}); err != nil {
		return err
	}
	if err := s.Session().Set("naive", 0); err != nil {
		return err
	}
	return s.goTo(w, r, "/#pencils")
}

// askWarehouse takes the time of a query to a database.
func askWarehouse(ctx context.Context) {
	select {
	case <-time.After(25 * time.Millisecond):
	case <-ctx.Done():
	}
}
