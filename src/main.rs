fn main() -> std::process::ExitCode {
    heartwheel::program::run(|_config| std::process::ExitCode::SUCCESS)
}
