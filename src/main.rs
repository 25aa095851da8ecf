//! The program: everything is in the library.

fn main() -> std::process::ExitCode {
    heartwheel::program::run(heartwheel::app::routes)
}
