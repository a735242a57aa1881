package main

type groupPlan struct{ name string }
