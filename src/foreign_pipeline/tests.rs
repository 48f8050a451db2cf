use super::*;

#[test]
fn images_get_the_tag_that_is_pulled() {
    for (image, ours) in [
        ("golang", Some("golang:latest")),
        ("golang:1.24", Some("golang:1.24")),
        ("team/web", Some("team/web:latest")),
        ("quay.io/team/web", Some("quay.io/team/web")),
        ("localhost:5000/web:1", Some("localhost:5000/web:1")),
        ("golang:${matrix.GO}-alpine", Some("golang:${matrix.GO}-alpine")),
        ("Golang", None),
        ("golang:", None),
        ("", None),
        ("a b", None),
    ] {
        assert_eq!(tagged(image).as_deref(), ours, "{image}");
    }
}

#[test]
fn names_become_names_of_ours() {
    for (given, ours) in
        [("web", "web"), ("My_App.db", "my-app-db"), ("3scale", "p-3scale"), ("__", "pipeline")]
    {
        assert_eq!(name_like(given), ours);
    }
}
